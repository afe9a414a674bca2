"""What the rivals share: how one is asked for a run, and what a run gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from gradfec_cli.channel import HEADER_BYTES
from gradfec_cli.daemons import Daemon, daemon, free_port
from gradfec_lab.bench.rivals.footage import FPS, LEAD_IN, Footage
from gradfec_lab.bench.rivals.links import Link
from gradfec_lab.bench.rivals.pictures import Picture

GRACE_S = 2.0  # after the last frame, for its answer
LEAD_IN_S = LEAD_IN / FPS


@dataclass(frozen=True)
class Answer:
    """What a frame got, and how long after it was taken."""

    class_index: int
    latency_ms: float


@dataclass(frozen=True)
class Flow:
    """A run: the frames' answers by number, and the bytes sent on the forward way, IP and UDP or TCP headers included.

    `plan` says in a few words how frames were sent.
    """

    answers: Mapping[int, Answer]
    up_bytes: int
    plan: str


@dataclass(frozen=True)
class Run:
    """What a rival has to do: send the footage over the link. `classify` is the uncut model, for a far end."""

    footage: Footage
    link: Link
    seed: int
    classify: Callable[[Picture], int]


class Rival(Protocol):
    """A way to get a camera's frames answered at the far end of a link."""

    def why_not(self) -> str:
        """Return why it cannot be measured on this machine; nothing if it can."""

    def run(self, run: Run) -> Flow:
        """Send the footage, in real time; GradfecError if that fails."""


@contextmanager
def injected(run: Run, port: int) -> Iterator[tuple[Daemon, int]]:
    """Run the loss injector in front of a UDP port of this machine; yield it with its own port."""
    own = free_port()
    with TemporaryDirectory(prefix="gradfec-rivals-") as folder:
        ends = ["--listen", f"127.0.0.1:{own}", "--to", f"127.0.0.1:{port}", "--json", "--seed", str(run.seed)]
        with daemon("gradfec-netem", *ends, *run.link.options(Path(folder), LEAD_IN_S), ready="listening on") as relay:
            yield relay, own


def udp_bytes(totals: Mapping[str, Any]) -> int:
    """Return the bytes that came into the injector on the forward way, with IP and UDP headers."""
    up = totals["up"]
    return int(up["received_bytes"] + HEADER_BYTES * up["received"])
