"""`make attack SECONDS=N`: an honest edge's frames while its cloud's real port is attacked, and before.

Its datagrams pass a wiretap, so that the attackers have what an eavesdropper would have: its key's id, its hello, and
the datagrams of its session. They have machines of their own: on this one they run at a low priority, and say how many
datagrams they came to send.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from gradfec_cli.daemons import daemon, free_port, with_key
from gradfec_lab.bench.end_to_end import write_images

from .attackers import ATTACKERS
from .watched import Edge, Memory, until
from .wiretap import Wiretap

RATES = {"garbage": 20_000, "forged-hellos": 2_000, "replay": 5_000, "flood": 40_000}
KEPT_SHARE = 0.95  # of its frame rate, at least
GROWTH_MB = 30.0  # of the cloud's memory over the attack, beyond which it is said to grow


@click.command()
@click.option("--seconds", default=120.0, help="How long the attack lasts.")
@click.option("--baseline", default=30.0, help="How long the honest edge is watched before, in seconds.")
@click.option("--fps", default=1.0, help="Frames a second of the honest edge: well within its share.")
@click.option("--attackers", default=",".join(ATTACKERS), help="Which of them.")
def main(seconds: float, baseline: float, fps: float, attackers: str) -> None:
    """Attack a real cloud, and report what an honest edge notices of it; exit 1 where a promise does not hold."""
    with tempfile.TemporaryDirectory(prefix="gradfec-attack-") as name:
        sys.exit(attack(Path(name), seconds, baseline, fps, attackers.split(",")))


def attack(folder: Path, seconds: float, baseline: float, fps: float, attackers: list[str]) -> int:
    """Run it all; print the report; return the exit code."""
    (folder / "images").mkdir()
    write_images(folder / "images", 20)
    port = free_port()
    with daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--json", ready="listening on") as cloud:
        tap = Wiretap(port)
        memory = Memory(cloud)
        camera = ["--camera", str(folder / "images"), "--loop", "--fps", str(fps)]
        edge = Edge("honest", *camera, "--cloud", f"127.0.0.1:{tap.port}")
        until(lambda: len(edge.answered) >= 10, "ten answers")
        start = time.monotonic()
        time.sleep(baseline)
        begun = time.monotonic()
        captured = tap.save(folder / "captured")
        running = {kind: attacker(kind, port, seconds, captured) for kind in attackers}
        time.sleep(seconds)
        ended = time.monotonic()
        said = {kind: json.loads(process.communicate()[0]) for kind, process in running.items()}
        before, during = edge.rate_between(start, begun), edge.rate_between(begun, ended)
        outcomes = Counter(record["outcome"] for when, record in edge.came if begun <= when < ended)
        edge.stop()
        totals = cloud.totals()
        memory.close()
        tap.close()
    settled = begun + (ended - begun) / 4  # every queue is full by then
    grew = [mb for when, mb in memory.samples if settled <= when < ended]
    report = {
        "seconds": seconds,
        "attackers": said,
        "frames_a_second": {"before": before, "during": during, "kept": during / before},
        "outcomes_during": dict(outcomes),
        "cloud_memory_mb": {"at_start": grew[0], "most": max(grew), "at_end": grew[-1]},
        "cloud": totals,
    }
    click.echo(json.dumps(report, indent=1))
    promises = {
        f"the honest edge keeps {KEPT_SHARE:.0%} of its frame rate": during >= KEPT_SHARE * before,
        "no byte goes to an attacker": not any(of["bytes_back"] for of in said.values()),
        "no memory grows": grew[-1] - grew[0] < GROWTH_MB,
    }
    for promise, holds in promises.items():
        click.echo(f"{'holds' if holds else 'BROKEN'}: {promise}")
    return 0 if all(promises.values()) else 1


def attacker(kind: str, port: int, seconds: float, captured: Path) -> subprocess.Popen[str]:
    """Start an attacker."""
    options = ["--port", port, "--seconds", seconds, "--rate", RATES[kind], "--captured", captured]
    command = [sys.executable, "-m", "tests.soak.attackers", kind, *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=with_key())


if __name__ == "__main__":
    main()
