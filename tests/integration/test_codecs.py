"""What the sweeps over codecs count and answer is what the real edge, injector and cloud count and answer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.untrained import write_codec

from gradfec_cli.cli import main
from gradfec_cli.daemons import free_port
from gradfec_cli.experiment import Link, Record, injector, top1
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.wire import Kind
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.ends import load_ends
from gradfec_lab.sweep.equal_bytes.comparison import fine_codec
from gradfec_lab.sweep.equal_bytes.sender import Picture, Scheme
from gradfec_lab.sweep.study import Image

from .patient import patient
from .relay import Relay

pytestmark = pytest.mark.daemons


class Scales(Relay):
    """A relay that weighs what it carries towards the cloud, by kind."""

    def __init__(self, target: int) -> None:
        self.bytes: Counter[int] = Counter()
        super().__init__(target)

    def carried(self, datagram: bytes) -> None:
        if datagram:  # an edge that waits for long asks the kernel, with an empty one, whether the port is closed
            self.bytes[datagram[2]] += len(datagram)


def through_daemons(photographs: Path, cloud: int, link: Link, *options: object) -> tuple[list[Record], int]:
    """Send photographs over a link; return their records, and the bytes of their symbols before the link."""
    with injector(link, cloud) as (_, port):
        scales = Scales(port)
        where = ("--camera", photographs, "--cloud", f"127.0.0.1:{scales.port}", "--results", "-")
        with patient("gradfec-edge", *where, *options) as edge:
            records = [json.loads(line) for line in edge.lines()]
        return records, scales.bytes[Kind.SYMBOL]


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_codecs_bytes_and_answers_are_those_through_the_daemons(
    photographs: Path, tmp_path: Path, count: int
) -> None:
    file, out = write_codec(tmp_path / "codec.npz"), tmp_path / "out"
    settings = {file: "quality 5", "sqrt4": "sqrt4", "jpeg:30": "jpeg:30", "webp:75": "webp:75"}
    codecs = [*settings][:count]
    arguments = ["--images", str(photographs), "--codecs", ",".join(codecs), "--out", str(out), "--json"]
    done = CliRunner().invoke(main, ["sweep", "rate", *arguments])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["rate"]
    lines = map(json.loads, (out / "answers.jsonl").read_text().splitlines())
    answers = {line["image"]: line["answers"] for line in lines}
    port = free_port()
    with patient("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--codec", file, ready="listening on"):
        for codec in codecs:
            setting, options = settings[codec], ["--codec", codec, *(["--quality", 5] if codec == file else [])]
            records, sent = through_daemons(photographs, port, Link(0), "--protect", "none", *options)
            assert sent == sum(record["bytes"] for record in records)
            assert {record["outcome"] for record in records} == {"complete"}, codec
            given = {record["source"]: top1(record) for record in records}
            assert given == {image: of[f"{codec}/{setting}"][0] for image, of in answers.items()}, codec
            (bytes_a_frame,) = (point["bytes"] for point in found[codec] if point["setting"] == setting)
            assert sent == pytest.approx(len(records) * bytes_a_frame, abs=1), codec
            agreed = sum(given[image] == of["reference"][0] for image, of in answers.items())
            agreement = next(point["agreement"] for point in found[codec] if point["setting"] == setting)
            assert agreement == pytest.approx(agreed / len(answers), abs=1e-6), codec


def test_a_plans_bytes_and_answers_are_those_through_the_daemons_whatever_is_lost(
    photographs: Path, tmp_path: Path
) -> None:
    file, cut = write_codec(tmp_path / "codec.npz"), named_cut(DEFAULT_CUT)
    folder = Photographs(photographs, cut.network.preprocess)
    port = free_port()
    options = ("--listen", f"127.0.0.1:{port}", "--codec", file)
    with patient("gradfec-cloud", *options, "--deadline-ms", 3000, ready="listening on"):  # some frames lack too much
        for scheme, coding in [
            (Scheme(file, "quality 3", "nested:9/25"), ["--codec", file, "--quality", 3]),
            (Scheme("webp", "webp:40", "nested:6/15"), ["--codec", "webp:40"]),
        ]:
            codec = fine_codec(scheme.codec, cut, 7)
            ends = load_ends(codec.coding)
            pictures = {name: Picture(codec, ends.features(image_of(folder, name))) for name in folder.names}
            sent = {name: picture.sent(scheme) for name, picture in pictures.items()}
            link = Link(0.3, seed=5)
            records, total = through_daemons(photographs, port, link, "--protect", scheme.policy, *coding)
            assert {record["source"]: record["bytes"] for record in records} == {
                name: one.wire_bytes for name, one in sent.items() if one is not None
            }
            assert total == sum(record["bytes"] for record in records)
            assert sum(record["datagrams"]["lost"] for record in records) > 10
            whole = [record for record in records if record["outcome"] == "complete"]
            assert len(whole) >= 4
            for record in whole:
                one = sent[record["source"]]
                assert one is not None
                case = one.case("point", 0, np.ones(one.plan.sent, bool), ends)
                assert top1(record) == next(iter(ends.classes([case.features()])))


def image_of(folder: Photographs, name: str) -> Image:
    image = folder.read(name)
    assert image is not None
    return image
