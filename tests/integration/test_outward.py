"""Real daemons whose answers go outward: to a webhook, a broker, programs over HTTP; and whole pictures come in."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from tests.cloud.outward.broker import MOSQUITTO, SOON_S, broker, listening
from tests.cloud.outward.receiver import receiver

from gradfec_cli.daemons import Daemon, free_port
from gradfec_cli.uncut import predict

from .endings import ended
from .patient import patient
from .stubbed import stubbed

pytest.importorskip("aiohttp")
pytest.importorskip("aiomqtt")


@pytest.fixture(autouse=True)
def not_in_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """NiceGUI does otherwise where it believes to be in a test."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)


class Api(NamedTuple):
    """The API of a page with a token."""

    port: int
    token: str

    def open(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        return urllib.request.urlopen(request, timeout=SOON_S)

    def get(self, path: str) -> Any:
        with self.open(path) as answer:
            return json.loads(answer.read())


@contextmanager
def running_edge(port: int, photographs: Path) -> Iterator[Daemon]:
    where = ("--camera", photographs, "--loop", "--cloud", f"127.0.0.1:{port}", "--name", "kitchen")
    with stubbed("gradfec-edge", *where, "--protect", "none", "--fps", 20) as edge:
        yield edge


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: it is in Debian's package mosquitto")
def test_all_sinks_tell_what_the_results_file_has_and_a_killed_cloud_leaves_its_last_will(
    photographs: Path, tmp_path: Path
) -> None:
    port, web, results = free_port(), free_port(), tmp_path / "results.jsonl"
    with receiver(200) as (url, posts), broker(tmp_path) as at, listening(at.port) as ear:
        outward = ("--webhook", url, "--on", "score > 0.5 and edge == kitchen", "--mqtt", f"mqtt://127.0.0.1:{at.port}")
        page = ("--web", web, "--http-token", tmp_path / "token", "--home-assistant", "homeassistant")
        listen = ("--listen", f"127.0.0.1:{port}", "--results", results)
        with stubbed("gradfec-cloud", *listen, *outward, *page) as cloud:
            cloud.wait_until_it_says("live page: ")
            api = Api(web, (tmp_path / "token").read_text().strip())
            with api.open("/api/answers/stream?edge=kitchen") as stream, running_edge(port, photographs):
                posted = json.loads(posts.get(timeout=SOON_S).body)
                published = ear.until_it_hears("gradfec/kitchen/answer")
                streamed = next(json.loads(line[5:]) for line in stream if line.startswith(b"data:"))
                (latest,) = api.get("/api/answers")["answers"]
                (edge,) = api.get("/api/edges")["edges"]
                assert ear.until_it_hears("gradfec/kitchen/link") == "online"
                assert ear.until_it_hears("homeassistant/device/gradfec_kitchen/config")["device"]["name"] == "kitchen"
            assert (edge["name"], edge["connected"]) == ("kitchen", True)
            ear.until_it_hears("gradfec/kitchen/link", "offline")
            written = [json.loads(line) for line in results.read_text().splitlines()]
            for told in (posted, published, streamed, latest):
                assert told in written
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(f"http://127.0.0.1:{web}/api/answers", timeout=SOON_S)
            cloud.process.send_signal(signal.SIGKILL)
            ear.until_it_hears("gradfec/availability", "offline")


def test_dead_receivers_cost_the_edges_nothing_and_the_end_no_more_than_seconds(photographs: Path) -> None:
    port, nobody = free_port(), free_port()
    outward = ("--webhook", f"http://127.0.0.1:{nobody}/", "--mqtt", f"mqtt://127.0.0.1:{nobody}", "--json")
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", *outward) as cloud:
        with stubbed(
            "gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--protect", "none"
        ) as edge:
            assert ended(edge)[0] == 0
        totals = cloud.totals()
    assert totals["tensors"]["complete"] == 6
    for sink in ("webhook", "mqtt"):
        assert sum(totals[f"answers_to_{sink}"].values()) == 6
        assert totals[f"answers_to_{sink}"]["delivered"] == 0


@pytest.mark.daemons
def test_whole_pictures_get_the_answers_of_the_uncut_network(photographs: Path, uncut: Any) -> None:
    http = pytest.importorskip("tritonclient.http")
    infer, listen = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    names, outputs = zip(*predict(uncut, photographs), strict=True)
    pixels = [cv2.imread(str(photographs / name), cv2.IMREAD_COLOR)[..., ::-1] for name in names]
    with patient("gradfec-cloud", "--listen", listen, "--infer", infer, "--split", "pool1_pool", ready="listening on"):
        client = http.InferenceServerClient(infer)
        images = http.InferInput("image", [len(pixels), 224, 224, 3], "UINT8")
        images.set_data_from_numpy(np.stack(pixels))
        result = client.infer("resnet50", [images])
        answers = [json.loads(text) for text in result.as_numpy("answer")]
        for answer, output in zip(answers, outputs, strict=True):
            best = answer["top5"][0]
            assert best["class_index"] == int(output.argmax())
            assert best["score"] == pytest.approx(output.max(), abs=1e-4)
        client.close()
