"""The same impairments by the kernel's netem and by our injector, under the traffic of the real daemons."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_cli import GRADFEC
from gradfec_cli.daemons import MODULES, Daemon, daemon, free_port, with_key
from gradfec_cli.experiment import Record, top1
from gradfec_cli.loss_models import Mask, gilbert_elliott_transitions
from gradfec_lab.sweep.statistics import Bootstrap, interval

from .router import Counters, Router

WATCH = Path(__file__).with_name("watch.py")
CLOUD = "10.77.1.2"
PORT = 9000
PINGS = 20
BLOCK = 512  # datagrams that the bootstrap keeps together: many bursts
# The machine that runs netem is slow, and the edge sends at a rate that it can take; nobody must give up for that.
EDGE_OPTIONS = ("--udp", "plain", "--in-flight", "2", "--timeout-ms", "120000", "--results", "-", "--json")
CLOUD_OPTIONS = ("--udp", "plain", "--deadline-ms", "10000", "--json")


@dataclass(frozen=True)
class Impairment:
    """What is wrong with a link: by what is to be expected of it, and in the words of both who can make it so."""

    name: str
    netem: str = ""
    injector: tuple[str, ...] = ()
    loss: float = 0.0
    burst: float = 1.0  # mean length of a run of losses
    reordered: float = 0.0  # share of the datagrams that others overtake
    delay_ms: float = 0.0
    prepare: str = ""  # a command in the router, which the injector has no match for

    @property
    def correlation(self) -> float:
        """How much the fate of a datagram says about the next one's."""
        if self.burst * (1 - self.loss) <= 1 + 1e-9:
            return 0.0
        return 1 - sum(gilbert_elliott_transitions(self.loss, self.burst))

    def loss_error(self, datagrams: int) -> float:
        """Return the standard error of the loss measured on so many datagrams."""
        inflation = (1 + self.correlation) / (1 - self.correlation)
        return float(np.sqrt(self.loss * (1 - self.loss) / datagrams * inflation))

    def burst_error(self, datagrams: int) -> float:
        """Return the standard error of the mean of bursts, whose lengths are geometric."""
        bursts = max(datagrams * self.loss / self.burst, 1)
        return float(np.sqrt((1 - 1 / self.burst) * self.burst**2 / bursts))


def independent(loss: float) -> Impairment:
    """Lose each datagram with the same probability."""
    return Impairment(
        f"loss {100 * loss:g} %", f"loss {100 * loss:g}%", ("--loss", f"{loss}"), loss=loss, burst=1 / (1 - loss)
    )


def in_bursts(loss: float, burst: float) -> Impairment:
    """Lose in bursts of a mean length."""
    to_bad, to_good = gilbert_elliott_transitions(loss, burst)
    words = f"loss gemodel {100 * to_bad:.4f}% {100 * to_good:.4f}% 100% 0%"
    return Impairment(
        f"loss {100 * loss:g} % in bursts of {burst:g}",
        words,
        ("--loss", f"{loss}", "--burst", f"{burst}"),
        loss,
        burst,
    )


IMPAIRMENTS = (
    Impairment("nothing"),
    independent(0.1),
    independent(0.2),
    independent(0.3),
    in_bursts(0.1, 4),
    in_bursts(0.2, 8),
    in_bursts(0.3, 8),
    Impairment("delay 40 ms", "delay 40ms", ("--delay", "40"), delay_ms=40),
    # netem's share is of those that overtake, ours of those that are overtaken
    Impairment(
        "25 % held back by 20 ms", "delay 20ms reorder 75%", ("--reorder", "0.25", "--reorder-by", "20"), reordered=0.25
    ),
)
# With UDP GRO the router takes datagrams that come together for one packet, and netem loses that: so it does with what
# the edge's own UDP_SEGMENT makes, where it shapes the edge's own interface.
OFFLOADED = Impairment(
    "loss 20 %, netem behind UDP offload",
    "loss 20%",
    loss=0.2,
    burst=1.25,
    prepare="ethtool -K eth0 rx-udp-gro-forwarding on",
)


@dataclass(frozen=True)
class Measured:
    """What one run gave."""

    lost: Mask  # (datagrams,) of the edge's sessions, in the order of sending
    reordered: int
    records: list[Record]
    sent: int  # by the edge's own count, hellos included
    received: int  # by the cloud's
    netem: Counters | None
    round_trip_ms: Mapping[str, float]

    @property
    def loss(self) -> float:
        """Share of the datagrams lost."""
        return float(self.lost.mean())

    @property
    def burst(self) -> float:
        """Mean length of a run of losses; 0 where there is none."""
        starts = int(begins(self.lost).sum())
        return float(self.lost.sum() / starts) if starts else 0.0

    def intervals(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return 95 % intervals of loss and burst, by bootstrap over blocks of datagrams."""
        count = max(len(self.lost) // BLOCK, 1)
        fates = np.stack([np.ones(len(self.lost), bool), self.lost, begins(self.lost)])
        by_block = np.array([part.sum(axis=1) for part in np.array_split(fates, count, axis=1)], np.float64)
        size, lost, starts = Bootstrap(count).means(by_block).T
        return interval(lost / size), interval(lost / np.maximum(starts, 1))

    def agreement(self, reference: Mapping[str, int]) -> float:
        """Return the share of frames whose answer is the lossless one."""
        return float(np.mean([top1(record) == reference[source_of(record)] for record in self.records]))


def begins(lost: Mask) -> Mask:
    """Return (n,) where a run of losses begins."""
    return lost & ~np.concatenate([[False], lost[:-1]])


def fates(sessions: Mapping[str, list[int]]) -> tuple[Mask, int]:
    """Return which datagrams (n,) never came, session after session, and how many came after a later one.

    A session's last datagrams are not known of if they are lost. There is one, unless a busy machine makes the edge
    believe that the cloud has gone.
    """
    parts, reordered = [np.zeros(0, bool)], 0
    for counters in sessions.values():
        came = np.array(counters)
        lost = np.ones(came.max() + 1, bool)
        lost[came] = False
        parts.append(lost)
        reordered += int((came < np.maximum.accumulate(came)).sum())
    return np.concatenate(parts), reordered


class Ends(NamedTuple):
    """Where the programs of a run are: what stands before each side's, the interface to watch, two addresses."""

    edge: list[str]
    cloud: list[str]
    interface: str
    listen: str
    target: str


def through_netem(router: Router, impairment: Impairment, images: Path, options: list[str]) -> Measured:
    """Run edge and cloud on the two sides of the router, with netem between them."""
    router.run(impairment.prepare or "ethtool -K eth0 rx-udp-gro-forwarding off")
    router.shape(impairment.netem)
    there = f"{CLOUD}:{PORT}"
    ends = Ends(router.inside("edge"), router.inside("cloud"), router.taps["cloud"], there, there)
    return measure(ends, impairment, images, options, router)


def through_injector(impairment: Impairment, images: Path, options: list[str], seed: int) -> Measured:
    """Run edge and cloud on this machine's loopback, with gradfec-netem between them."""
    cloud, relay = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    arguments = ("--listen", relay, "--to", cloud, "--seed", seed, *impairment.injector)
    with daemon("gradfec-netem", *arguments, ready="listening on"):
        return measure(Ends([], [], "lo", cloud, relay), impairment, images, options, None)


def measure(ends: Ends, impairment: Impairment, images: Path, options: list[str], router: Router | None) -> Measured:
    """Send the images and count; the cloud and the watcher see this run alone."""
    port = ends.listen.rpartition(":")[2]
    program = [*ends.cloud, sys.executable, str(WATCH)]
    with (
        running_cloud(ends) as cloud,
        daemon("watch", ends.interface, port, ready="watching", program=program) as watch,
    ):
        records, totals = send(ends, images, options)
        counters = router.counters() if router else None
        seen = json.loads(watch.stop()[-1])
        received = cloud.totals()["datagrams_received"]
    round_trip_ms = ping(ends) if impairment.delay_ms else {}
    if seen["missed"]:
        raise RuntimeError(f"the watcher missed {seen['missed']} datagrams: this machine is too busy")
    lost, reordered = fates(seen["sessions"])
    sent = totals["datagrams_sent"]
    return Measured(
        lost, reordered, records, sent["symbol"] + sent["control"], sum(received.values()), counters, round_trip_ms
    )


def running_cloud(ends: Ends) -> AbstractContextManager[Daemon]:
    """Run a cloud at its end."""
    program = [*ends.cloud, sys.executable, "-m", MODULES["gradfec-cloud"]]
    return daemon("gradfec-cloud", "--listen", ends.listen, *CLOUD_OPTIONS, ready="listening on", program=program)


def send(ends: Ends, images: Path, options: list[str]) -> tuple[list[Record], dict[str, Any]]:
    """Run an edge over the images; return its records and totals."""
    program = [*ends.edge, sys.executable, "-m", MODULES["gradfec-edge"]]
    arguments = ["--camera", str(images), "--cloud", ends.target, *EDGE_OPTIONS, *options]
    with daemon("gradfec-edge", *arguments, program=program) as edge:
        lines = [json.loads(line) for line in edge.lines()]
    if not lines or "frame" in lines[-1]:
        raise edge.failure()
    return lines[:-1], lines[-1]


def ping(ends: Ends) -> dict[str, float]:
    """Ask `gradfec doctor` for the round trip to a cloud of its own, in milliseconds."""
    words = [*ends.edge, *GRADFEC, "doctor", "--cloud", ends.target, "--pings", str(PINGS), "--json"]
    with running_cloud(ends):
        said = subprocess.run(words, env=with_key(), stdout=subprocess.PIPE, text=True, check=False).stdout
    found: dict[str, float] = json.loads(said)["checks"][-1]["round_trip_ms"]
    return found


@contextmanager
def repeated(images: Path, times: int) -> Iterator[Path]:
    """Yield a folder with each of the images several times."""
    with tempfile.TemporaryDirectory(prefix="gradfec-netem-") as folder:
        for path in sorted(images.iterdir()):
            for number in range(times):
                (Path(folder) / f"{number}-{path.name}").symlink_to(path.resolve())
        yield Path(folder)


def source_of(record: Record) -> str:
    """Return the name of the image that a record is about."""
    return str(record["source"]).partition("-")[2]
