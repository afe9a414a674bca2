"""With --log-format json, real daemons write only objects to standard error, and never a key."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gradfec_cli.daemons import free_port, own_key
from gradfec_host.key_files import read_key

from .endings import SOON_S, ended
from .stubbed import stubbed

JSON = ["--log-format", "json", "--log-level", "debug"]


def objects(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def event(lines: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(line for line in lines if line["event"] == name)


def test_a_run_from_its_first_line_to_its_totals(photographs: Path) -> None:
    port = free_port()
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--name", "door"]
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", *JSON) as cloud:
        cloud.process.send_signal(signal.SIGHUP)
        cloud.wait_until_it_says('"keys_read"', SOON_S)
        with stubbed("gradfec-edge", *where, *JSON) as edge:
            assert ended(edge)[0] == 0
        cloud.wait_until_it_says('"session_ended"', SOON_S)
        cloud.process.send_signal(signal.SIGTERM)
        assert ended(cloud)[0] == 0
    key = read_key(own_key())
    by_edge, by_cloud = objects([*edge.said]), objects([*cloud.said])
    assert {line["event"] for line in by_edge} == {"started", "settings", "looking", "connected", "frame", "totals"}
    assert {line["level"] for line in by_edge} == {"info", "debug"}
    started = event(by_edge, "started")
    wanted = {"cloud": f"127.0.0.1:{port}", "name": "door", "split": "pool1_pool", "fec": "zfec", "runtime": "litert"}
    assert wanted.items() <= started.items()
    assert {"importance", "protect", "config", "version"} <= started.keys()
    assert started["key_id"] == key.id.hex()
    assert started["udp"] in {"batched", "plain"}
    started = event(by_cloud, "started")
    assert {"runtime", "config", "version", "receive_buffer_bytes", "udp", "codes"} <= started.keys()
    assert (started["fill"], started["split"], started["key_ids"]) == ("auto", "pool1_pool", [key.id.hex()])
    opened = event(by_cloud, "session_opened")
    assert opened["edge"] == "door"
    assert opened["address"].startswith("127.0.0.1:")
    text = "\n".join([*edge.said, *cloud.said]).lower()
    for secret in (key.token, key.token[9:], key.secret.hex(), repr(key.secret)[2:-1].lower()):
        assert secret not in text


def test_warnings_and_the_error_that_ends_a_daemon_are_objects_too(photographs: Path) -> None:
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{free_port()}", "--insecure"]
    with stubbed("gradfec-edge", *where, *JSON, "--wait", "1") as edge:
        code, said, _ = ended(edge)
    lines = objects(said.splitlines())
    assert code == 1
    assert event(lines, "insecure")["level"] == event(lines, "unreachable")["level"] == "warning"
    assert (lines[-1]["event"], lines[-1]["level"]) == ("failed", "error")
    assert "nothing listens there; start it there: gradfec-cloud --listen" in lines[-1]["message"]


def test_what_a_library_says_of_a_damaged_file_is_an_object_that_names_it_and_a_line_for_people(
    photographs: Path, tmp_path: Path
) -> None:
    for photograph in photographs.iterdir():
        (tmp_path / photograph.name).write_bytes(photograph.read_bytes())
    _, encoded = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    damaged = encoded.tobytes()
    (tmp_path / "z.png").write_bytes(damaged[:2000] + bytes(100) + damaged[2100:])
    port = free_port()
    where = ["--camera", tmp_path, "--cloud", f"127.0.0.1:{port}"]
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}"):
        with stubbed("gradfec-edge", *where, *JSON) as edge:
            assert ended(edge)[0] == 0
        by_edge = objects([*edge.said])
        with stubbed("gradfec-edge", *where) as edge:
            assert ended(edge)[0] == 0
    said = event(by_edge, "library")
    assert (said["file"], said["level"], said["daemon"]) == ("z.png", "warning", "gradfec-edge")
    assert "libpng" in said["message"]
    assert any("gradfec-edge: warning: z.png: libpng" in line for line in edge.said)
    assert not any(line.startswith("libpng") for line in edge.said)


def test_without_a_terminal_and_results_both_daemons_say_from_time_to_time_how_it_goes(
    photographs: Path, tmp_path: Path
) -> None:
    port = free_port()
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--loop", "--fps", "20"]
    said = r"[1-9]\d* of \d+ frames answered, 0\.0 % of them partial, loss 0\.0 %, [1-9]\d* kbit/s, \d+ ms \(median\)"
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--log-format", "json", EVERY_S=0.5) as cloud:
        with stubbed("gradfec-edge", *where, EVERY_S=0.5) as edge:
            edge.wait_until_it_says(" frames answered, 0.0 %", SOON_S)
            cloud.wait_until_it_says(" frames answered, 0.0 %", SOON_S)
        recorded = [*where, "--results", tmp_path / "answers.jsonl"]
        with stubbed("gradfec-edge", *recorded, EVERY_S=0.5) as silent:
            time.sleep(2)
        cloud.wait_until_it_says("0 edges connected, 0 of 0 frames answered", SOON_S)
    assert any(re.search(rf" gradfec-edge: {said}$", line) for line in edge.said), edge.said
    told = [line for line in objects([*cloud.said]) if line["event"] == "progress" and line["answered"]]
    assert re.fullmatch(f"1 edge connected, {said}", told[0]["message"])
    assert {"frames", "answered", "partial", "expected", "loss", "kbit_s", "latency_ms", "edges"} <= told[0].keys()
    assert not any("frames answered" in line for line in silent.said)


def test_an_error_before_anything_is_started_is_an_object_too(tmp_path: Path) -> None:
    where = ["--camera", tmp_path / "nothing.mp4", "--cloud", "127.0.0.1:9"]
    with stubbed("gradfec-edge", *where, "--log-format", "json") as edge:
        code, said, _ = ended(edge)
    (line,) = objects(said.splitlines())
    assert code == 2
    assert (line["daemon"], line["event"]) == ("gradfec-edge", "failed")
    assert "does not exist" in line["message"]
