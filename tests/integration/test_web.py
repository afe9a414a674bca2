"""The real daemons with a live page each."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gradfec_cli import demo, experiment
from gradfec_cli.daemons import Daemon, daemon, free_port
from gradfec_cli.experiment import Link, injector

from .patient import patient
from .stubbed import stubbed

PATIENCE_S = 300.0  # a safety net
BAD_LINK = Link(0.3, burst=8, seed=3)


@pytest.fixture(autouse=True)
def not_in_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """NiceGUI does otherwise where it believes to be in a test."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)


def page_of(running: Daemon, enough: Callable[[str], bool]) -> str:
    """Load a daemon's page until it shows enough."""
    running.wait_until_it_says("live page: ")
    url, end = running.said_after("live page: "), time.monotonic() + PATIENCE_S
    while True:
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
        if enough(text):
            return text
        assert time.monotonic() < end, f"{url} does not show it: {text}"


@pytest.mark.daemons
def test_both_pages_show_what_a_bad_link_did_to_the_frames(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "daemon", patient)
    port = free_port()
    with (
        patient("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--web", free_port(), ready="listening on") as cloud,
        injector(BAD_LINK, port) as (_, relay),
        daemon(
            *("gradfec-edge", "--camera", str(photographs), "--loop", "--in-flight", 1, "--timeout-ms", 60_000),
            *("--cloud", f"127.0.0.1:{relay}", "--protect", "FEC_50_50", "--name", "kitchen"),
            *("--web", free_port(), "--thumbnail", "--results", "-"),
        ) as edge,
    ):
        record = json.loads(next(edge.lines()))
        label = record["top5"][0]["label"].replace("_", " ")
        for running, also in ((cloud, "kitchen"), (edge, "FEC_50_50")):
            shown = ("data:image/jpeg;base64,", label, "kitchen", also)
            page_of(running, lambda text, shown=shown: all(words in text for words in shown))


def test_an_edge_without_thumbnail_sends_the_cloud_s_page_no_picture_of_what_it_sees(photographs: Path) -> None:
    port = free_port()
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--web", free_port()) as cloud,
        stubbed(
            *("gradfec-edge", "--camera", photographs, "--loop", "--cloud", f"127.0.0.1:{port}", "--name", "kitchen"),
            *("--protect", "FEC_50_50", "--results", "-"),
        ) as edge,
    ):
        next(edge.lines())
        text = page_of(cloud, lambda text: "Which features matter" in text and "dropped by plan" in text)
        assert "data:image/jpeg" not in text


def test_a_page_that_dies_costs_the_daemon_nothing(photographs: Path) -> None:
    port = free_port()
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--web", free_port()) as cloud,
        stubbed(
            "gradfec-edge", "--camera", photographs, "--loop", "--cloud", f"127.0.0.1:{port}", "--results", "-"
        ) as edge,
    ):
        lines = edge.lines()
        next(lines)
        (page,) = children_of(cloud.process.pid)
        page_of(cloud, lambda text: True)
        os.kill(page, signal.SIGKILL)
        cloud.wait_until_it_says("the live page has ended")
        for _ in range(20):
            assert json.loads(next(lines))["outcome"] == "complete"
        edge.stop()
        assert edge.process.returncode == 0, edge.said


class Interrupted(Console):
    """A terminal at which somebody presses Ctrl-C once the page has been looked at."""

    page = ""

    def print(self, *text: Any, **options: Any) -> None:
        if not self.page:
            with urllib.request.urlopen(text[0].removeprefix("live page: "), timeout=60) as answer:
                self.page = answer.read().decode()
        else:
            raise KeyboardInterrupt


def test_the_demo_shows_its_page_until_ctrl_c_and_leaves_nothing_running(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "daemon", stubbed)
    console, before = Interrupted(file=io.StringIO()), children_of(os.getpid())
    with pytest.raises(KeyboardInterrupt):
        demo.show_live(photographs, "FEC_50_50", ["--protect", "FEC_50_50"], BAD_LINK, demo.FREE_PORT, console)
    assert "gradfec" in console.page
    assert children_of(os.getpid()) == before


@pytest.mark.parametrize("name", ["gradfec-cloud", "gradfec-edge"])
def test_a_page_whose_port_is_taken_is_an_error_of_one_line(name: str, photographs: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        web = taken.getsockname()[1]
        where = (
            ("--listen", f"127.0.0.1:{free_port()}")
            if name == "gradfec-cloud"
            else ("--camera", photographs, "--cloud", f"127.0.0.1:{free_port()}")
        )
        with stubbed(name, *where, "--web", web, ready=None) as running:
            assert running.process.wait(PATIENCE_S) == 1
            assert str(web) in str(running.failure())


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
