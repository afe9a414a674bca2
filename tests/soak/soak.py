"""`make soak MINUTES=N`: two edges, an injector that loses a fifth in bursts, attackers, and fault after fault.

In the first third of the time each process is killed in turn, again and again, and started again at once, as a
supervisor would. In the rest nothing is killed, so that memory that grows is seen to. All the while each is stopped for
ten seconds; a disk is full; clocks jump, where this user may set them. The last part is quiet, ends in order, and
accounts for every datagram and every tensor.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from gradfec_cli.daemons import ERROR, Daemon, free_port, with_key
from gradfec_cli.experiment import Link, run_with_own_cloud, unaccounted
from gradfec_lab.bench.end_to_end import write_images

from .attack import attacker
from .watched import Edge, Growth, Memory, until
from .wiretap import Wiretap

LINK = Link(loss=0.2, burst=8, seed=1)
STOPPED_S = 10.0
REST_S = 20.0  # between faults
WARM_UP_S = 300.0  # of a process, before its memory counts: one round of faults
RECOVERY_S = 5.0  # of every edge, after whatever was done has ended
QUIET_FRAMES = 60
CLOCK_STEPS_S = (3600.0, -7200.0, 3600.0)  # they add up to nothing
GROWTH = 0.05  # of what a process uses, from the first half of its life to the second: above it, memory is said to grow


@dataclass
class Report:
    """What has been seen so far."""

    recoveries: list[tuple[str, float]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    answers: int = 0

    def check(self, holds: bool, what: str) -> None:
        """Take note of what does not hold."""
        if not holds:
            self.broken.append(what)
            click.echo(f"BROKEN: {what}")


class System:
    """A cloud, an injector before it, and two edges; each can be started again at the same place."""

    def __init__(self, folder: Path, fps: float, report: Report) -> None:
        """Start them all."""
        self._folder, self._fps, self._report = folder, fps, report
        self.cloud_port, self.port = free_port(), free_port()
        self.tap = Wiretap(self.port)
        self.parts: dict[str, Daemon] = {}
        self.memories: dict[str, Memory] = {}
        self.grown: dict[str, Growth] = {}  # of those that have lived for long
        self.edges: dict[str, Edge] = {}
        self.said: dict[str, list[str]] = {}
        for name in ("cloud", "injector", "left", "right"):
            self.start(name)

    def start(self, name: str) -> None:
        """Start a part, and do not wait."""
        if name == "cloud":
            options = ["--listen", f"127.0.0.1:{self.cloud_port}", "--results", str(self._folder / "cloud.jsonl")]
            self.parts[name] = Daemon("gradfec-cloud", [*options, "--json"])
        elif name == "injector":
            way = ["--listen", f"127.0.0.1:{self.port}", "--to", f"127.0.0.1:{self.cloud_port}", "--json"]
            self.parts[name] = Daemon("gradfec-netem", [*way, *LINK.options()])
        else:
            port = self.tap.port if name == "left" else self.port
            camera = ["--camera", str(self._folder / "images"), "--loop", "--fps", str(self._fps)]
            self.edges[name] = Edge(name, *camera, "--cloud", f"127.0.0.1:{port}")
            self.parts[name] = self.edges[name].daemon
        self.memories[name] = Memory(self.parts[name])

    def answers(self, when: str) -> float:
        """Wait until both edges get answers to what they send from now on; return how long that takes, in seconds."""
        since = time.monotonic()
        try:
            for name in ("left", "right"):
                until(lambda name=name: any(came > since for came in self.edges[name].answered), f"{name} after {when}")
        except SystemExit:
            for name, part in self.parts.items():
                click.echo(f"{name}: exit code {part.process.poll()}, {list(part.said)[-5:]}")
            raise
        return time.monotonic() - since

    def recovered(self, fault: str) -> None:
        """Take note of how long it takes until both edges have answers again."""
        took = self.answers(fault)
        self._report.recoveries.append((fault, took))
        self._report.check(took <= RECOVERY_S, f"{fault}: {took:.1f} s until both edges had answers again")
        click.echo(f"{fault}: answers again after {took:.1f} s")

    def kill(self, name: str) -> None:
        """Kill a part, and start it again at once; what it had recorded must be whole."""
        before = self.edges.get(name)
        self.parts[name].process.kill()
        self.parts[name].process.wait()
        self.note(name)
        if before is not None:
            self._report.answers += len(before.answered)
        if name == "cloud":  # whose successor will not know the hellos that were heard so far
            self.tap.forget()
        self.start(name)

    def note(self, name: str) -> None:
        """Look at what a part has said and used, now that it is gone."""
        memory = self.memories.pop(name)
        memory.close()
        if (growth := memory.growth(WARM_UP_S)) is not None:
            self.grown[name] = growth
        said = list(self.parts[name].said)
        self._report.check(not any("Traceback" in line for line in said), f"{name} printed a traceback: {said[-3:]}")

    def kill_all(self) -> None:
        """Leave nothing behind, however this ends."""
        for part in self.parts.values():
            part.process.kill()

    def stop(self) -> None:
        """End in order."""
        for edge in self.edges.values():
            self._report.answers += len(edge.answered)
            self._report.check(bool(edge.stop()), "an edge ended without its totals")
        for name in ("cloud", "injector"):
            self.parts[name].stop()
        for name in self.parts:
            self.note(name)
        self.tap.close()
        lines = (self._folder / "cloud.jsonl").read_text().splitlines(keepends=True)
        torn = [line for line in lines if not is_record(line)]
        self._report.check(len(torn) <= 1, f"{len(torn)} lines of the cloud's records are torn")


def is_record(line: str) -> bool:
    """Tell whether a line is a whole record."""
    with contextlib.suppress(ValueError):
        return line.endswith("\n") and isinstance(json.loads(line), dict)
    return False


@click.command()
@click.option("--minutes", default=60.0, help="How long, about; at least one round of faults.")
@click.option("--fps", default=1.0, help="Frames a second of each edge.")
@click.option("--clock", is_flag=True, help="Set the machine's clock forth and back: needs the privilege.")
def main(minutes: float, fps: float, clock: bool) -> None:
    """Run the system through faults for so long; report; exit 1 where anything did not hold."""
    with tempfile.TemporaryDirectory(prefix="gradfec-soak-") as name:
        sys.exit(soak(Path(name), 60 * minutes, fps, clock))


def soak(folder: Path, seconds: float, fps: float, clock: bool) -> int:
    """Run rounds of faults until the time is over; then the quiet part; print the report; return the exit code."""
    (folder / "images").mkdir()
    write_images(folder / "images", QUIET_FRAMES)
    report = Report()
    end = time.monotonic() + seconds
    system = System(folder, fps, report)
    try:
        rounds = disturb(system, folder, end, seconds, clock, report)
        system.stop()
    finally:
        system.kill_all()
    account = quiet(folder, report)
    for name, grown in system.grown.items():
        report.check(grown.share <= GROWTH, f"{name}'s memory grows: {grown}")
    summary: dict[str, Any] = {
        "minutes": round((time.monotonic() - end + seconds) / 60, 1),
        "rounds": rounds,
        "answers": report.answers,
        "faults": len(report.recoveries),
        "longest_recovery_s": max(took for _, took in report.recoveries),
        "memory": {name: grown._asdict() for name, grown in system.grown.items()},
        "unaccounted": account,
        "broken": report.broken,
    }
    click.echo(json.dumps(summary, indent=1))
    return 1 if report.broken else 0


def disturb(system: System, folder: Path, end: float, seconds: float, clock: bool, report: Report) -> int:
    """Run rounds of faults until the time is over; return how many there were."""
    click.echo(f"the first answers after {system.answers('the start'):.1f} s")
    for rounds in itertools.count(1):
        kill = rounds == 1 or time.monotonic() < end - seconds * 2 / 3
        for fault, act in faults(system, folder, kill, clock, report):
            time.sleep(REST_S)
            act()
            system.recovered(fault)
        with under_attack(system, folder, report):
            time.sleep(2 * REST_S)
        system.recovered("an attack")
        if time.monotonic() >= end:
            return rounds
    raise AssertionError("unreachable")


def faults(
    system: System, folder: Path, kill: bool, clock: bool, report: Report
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield one round of faults, each with what does it."""
    for name in system.parts if kill else ():
        yield f"SIGKILL of {name}", lambda name=name: system.kill(name)
    for name in system.parts:
        yield f"SIGSTOP of {name}", lambda name=name: stopped(system.parts[name])
    yield "a full disk", lambda: full_disk(system, folder, report)
    if clock:
        yield "clock steps", step_clock


def stopped(part: Daemon) -> None:
    """Let a process stand still for a while."""
    part.process.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    part.process.send_signal(signal.SIGCONT)


def full_disk(system: System, folder: Path, report: Report) -> None:
    """Run an edge whose records find no room: it says so in one line, and ends."""
    command = [sys.executable, "-m", "gradfec_edge", "--camera", str(folder / "images")]
    command += ["--cloud", f"127.0.0.1:{system.port}", "--results", "/dev/full"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=with_key(), check=False)
    errors = [line for line in done.stderr.splitlines() if ERROR.fullmatch(line)]
    report.check(done.returncode == 1 and len(errors) == 1 and "Traceback" not in done.stderr, "a full disk is said")


def step_clock() -> None:
    """Set the clock forth and back."""
    for step in CLOCK_STEPS_S:
        time.clock_settime(time.CLOCK_REALTIME, time.time() + step)
        time.sleep(2)


@contextmanager
def under_attack(system: System, folder: Path, report: Report) -> Iterator[None]:
    """Attack the cloud's port meanwhile; no byte may come back."""
    captured = system.tap.save(folder / "captured")
    kinds = ("garbage", "forged-hellos", "replay")
    running = {kind: attacker(kind, system.cloud_port, 2 * REST_S - 5, captured) for kind in kinds}
    yield
    for kind, process in running.items():
        back = json.loads(process.communicate()[0])["bytes_back"]
        report.check(back == 0, f"{back} bytes went to {kind}")


def quiet(folder: Path, report: Report) -> dict[str, int]:
    """Run one edge over the same link with nobody disturbing; return what no counter accounts for."""
    run, cloud = run_with_own_cloud(folder / "images", LINK, [])
    account = unaccounted(run, cloud)
    tensors = dict(cloud["tensors"])
    account["tensors"] = tensors.pop("opened") - sum(tensors.values())
    account["frames"] = QUIET_FRAMES - sum(n for name, n in run.edge["frames"].items() if name != "skipped")
    report.check(not any(account.values()), f"unaccounted: {account}")
    return account


if __name__ == "__main__":
    main()
