"""The real daemons survive kills, blackouts, changed addresses, garbage, other edges, and long runs.

Short by default, and with toy networks; GRADFEC_SURVIVAL=full runs the real ones at the lengths that
docs/explanation/results.md reports (a quarter of an hour):
`GRADFEC_SURVIVAL=full make test ARGS="-s tests/integration/test_survival.py"`. Times are printed, never asserted:
a slow machine is no fault.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gradfec_cli.daemons import Daemon, daemon, free_port

from .endings import untimed
from .relay import Relay
from .stubbed import stubbed

FULL = os.environ.get("GRADFEC_SURVIVAL") == "full"
BLACKOUT_S = 10.0 if FULL else 3.0
GARBAGE_S = 60.0 if FULL else 2.0
GARBAGE_PER_S = 2000
TENSORS = 2000 if FULL else 60
PATIENCE_S = 120.0  # a safety net, far above what any machine needs

start = daemon if FULL else stubbed


class Answers:
    """The records that an edge writes, as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def answered(self) -> int:
        return sum(record["outcome"] != "timeout" for record in self.read())

    def wait_for_more(self, count: int = 3) -> float:
        """Wait until `count` more frames have been answered; return the seconds until the first of them."""
        start, before = time.monotonic(), self.answered()
        first = 0.0
        while (now := self.answered()) < before + count:
            if now > before and not first:
                first = time.monotonic() - start
            assert time.monotonic() - start < PATIENCE_S, "no answers any more"
            time.sleep(0.02)
        return first or time.monotonic() - start


@contextmanager
def cloud(port: int) -> Iterator[Daemon]:
    options = ("--listen", f"127.0.0.1:{port}", "--deadline-ms", "500", "--json")
    with start("gradfec-cloud", *options, ready="listening on") as running:
        yield running


@contextmanager
def edge(images: Path, port: int, results: Path, *options: str) -> Iterator[tuple[Daemon, Answers]]:
    arguments = ["--camera", str(images), "--cloud", f"127.0.0.1:{port}", "--results", str(results), "--json"]
    with start("gradfec-edge", *arguments, "--loop", "--fps", "6", "--timeout-ms", "2000", *options) as running:
        answers = Answers(results)
        answers.wait_for_more()
        yield running, answers


def report(what: str, seconds: float) -> None:
    print(f"\n{what}: answering again after {seconds:.2f} s")


def test_a_killed_cloud_is_found_again_when_it_is_back(photographs: Path, tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        first = stack.enter_context(cloud(port))
        _, answers = stack.enter_context(edge(photographs, port, tmp_path / "out.jsonl"))
        first.process.kill()
        first.process.wait()
        time.sleep(2)
        restarted = time.monotonic()
        stack.enter_context(cloud(port))
        ready = time.monotonic() - restarted
        report(
            f"cloud killed and restarted (ready after {ready:.2f} s), from when it is ready", answers.wait_for_more()
        )


def test_an_edge_whose_cloud_has_left_ends_at_the_first_signal(photographs: Path, tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        first = stack.enter_context(cloud(port))
        running, _ = stack.enter_context(edge(photographs, port, tmp_path / "out.jsonl"))
        first.stop()
        time.sleep(1)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE_S / 12) == 0  # it waits for no answer: nobody gives one


def test_a_killed_edge_starts_again_beside_a_cloud_that_went_on(photographs: Path, tmp_path: Path) -> None:
    port = free_port()
    with cloud(port):
        with edge(photographs, port, tmp_path / "out.jsonl") as (running, answers):
            running.process.kill()
            running.process.wait()
            recorded = answers.read()
        with edge(photographs, port, tmp_path / "out.jsonl") as (_, answers):
            assert answers.read()[: len(recorded)] == recorded, "what was answered stays recorded"


def test_answers_come_back_after_a_blackout(photographs: Path, tmp_path: Path) -> None:
    port = free_port()
    relay = Relay(port)
    with cloud(port), edge(photographs, relay.port, tmp_path / "out.jsonl") as (_, answers):
        relay.on = False
        time.sleep(BLACKOUT_S)
        relay.on = True
        report(f"{BLACKOUT_S:.0f} s of total loss", answers.wait_for_more())


def test_an_edge_whose_address_changes_is_answered_at_the_new_one_in_the_same_session(
    photographs: Path, tmp_path: Path
) -> None:
    port = free_port()
    relay = Relay(port)
    with (
        cloud(port) as running,
        edge(photographs, relay.port, tmp_path / "out.jsonl", "--name", "nomad") as (_, answers),
    ):
        for _ in range(3):
            relay.rebind()
            report("another source port", answers.wait_for_more())
            running.wait_until_it_says(f"edge 'nomad' has moved to {relay.address}")
        sessions = [line for line in running.said if "connected" in line or "gone" in line]
        assert [*map(untimed, sessions)] == ["gradfec-cloud: edge 'nomad' connected"]
        assert "timeout" not in {record["outcome"] for record in answers.read()}


def test_garbage_at_the_clouds_port_stops_no_answer(photographs: Path, tmp_path: Path) -> None:
    port = free_port()
    with cloud(port) as running, edge(photographs, port, tmp_path / "out.jsonl") as (sender, answers):
        before = answers.answered()
        sent = shower(port, GARBAGE_S, lambda: answers.answered() > before)
        during = answers.answered() - before
        report(f"{sent} random datagrams in {GARBAGE_S:.0f} s, {during} answers meanwhile", answers.wait_for_more())
        assert during > 0
        from_edge = sender.totals()["datagrams_sent"]
        totals = running.totals()
        counted = sum(totals["datagrams_received"].values()) + totals["datagrams_dropped_by_kernel"]["kernel"]
        assert counted == sent + from_edge["symbol"] + from_edge["control"], "a datagram without a named fate"
        assert "Traceback" not in "\n".join(running.said)


def shower(port: int, seconds: float, enough: Callable[[], bool]) -> int:
    """Send random datagrams of 0 to 2,000 bytes for so long, on a slow machine until it is enough; return how many."""
    rng = random.Random(5)
    noise = rng.randbytes(2**20)
    target, sent, start = ("127.0.0.1", port), 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        while (elapsed := time.monotonic() - start) < seconds or not enough():
            assert elapsed < seconds + PATIENCE_S, "no answers any more"
            while sent < elapsed * GARBAGE_PER_S:
                at = rng.randrange(2**20 - 2000)
                source.sendto(noise[at : at + rng.randrange(2001)], target)
                sent += 1
            time.sleep(0.002)
    return sent


def test_two_edges_are_served_at_once(photographs: Path, tmp_path: Path) -> None:
    port = free_port()
    with cloud(port), ExitStack() as stack:
        both = [
            stack.enter_context(edge(photographs, port, tmp_path / f"{name}.jsonl", "--name", name))[1]
            for name in ("north", "south")
        ]
        for answers in both:
            answers.wait_for_more()


def test_memory_stays_flat(photographs: Path, tmp_path: Path) -> None:
    port = free_port()
    with cloud(port) as running, ExitStack() as stack:
        sender, answers = stack.enter_context(edge(photographs, port, tmp_path / "out.jsonl", "--fps", "1000"))
        samples: dict[str, list[float]] = {"edge": [], "cloud": []}
        for quarter in range(1, 5):
            wait_until(lambda: len(answers.read()) >= TENSORS * quarter // 4)  # noqa: B023
            samples["edge"].append(resident_mb(sender))
            samples["cloud"].append(resident_mb(running))
        for name, megabytes in samples.items():
            print(f"\n{name}: {', '.join(f'{mb:.0f}' for mb in megabytes)} MB after each quarter of {TENSORS} tensors")
            assert megabytes[-1] < megabytes[0] + 50, "memory grows"


def wait_until(condition: Callable[[], bool]) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < 10 * PATIENCE_S
        time.sleep(0.2)


def resident_mb(running: Daemon) -> float:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))
