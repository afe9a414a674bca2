"""What a daemon tells its live page: one JSON object a line, from the daemon to the page's process.

The page only looks. Nothing flows back, and a page that is slow, or has crashed, costs the daemon nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Edge:
    """One edge, as it is now."""

    name: str
    session: int
    address: str
    connected: bool
    since: float  # Unix time: when it connected, or went
    said: str = ""  # why it is gone, or what keeps it from connecting


@dataclass(frozen=True)
class Status:
    """The whole daemon, about once a second."""

    role: str  # "edge" or "cloud"
    at: float  # Unix time
    title: str  # the address that is listened on, or the camera
    settings: dict[str, str]  # everything that was decided at start, by name
    insecure: bool
    edges: list[Edge]
    counters: dict[str, dict[str, int]]  # family -> name -> count since the start, as in the daemon's last words


@dataclass(frozen=True)
class Frame:
    """A frame that is done with."""

    edge: str
    session: int
    number: int  # of the tensor
    at: float  # Unix time
    outcome: str  # complete, partial or timeout
    top5: list[tuple[int, str, float]]  # class index, label, score; empty without an answer
    packets: dict[str, int]  # as in the results files; what is not known is left out
    datagrams: dict[str, int]  # likewise
    bursts: int  # runs of consecutive datagrams that were lost
    latency_ms: float
    stages_ms: dict[str, float]
    source: str = ""  # the file or camera; the edge's page only


@dataclass(frozen=True)
class Picture:
    """What became of each packet of one tensor, and how much it mattered; about one a second for each edge."""

    edge: str
    session: int
    number: int
    channels: int
    groups: int  # packets of a channel
    cells: str  # base64 of (channels * groups,) uint8 of Cell, channel by channel
    importance: str = ""  # base64 of (channels * groups,) uint8, 255 for the most important; empty where not known
    photograph: str = ""  # base64 of a JPEG; empty unless the edge sends thumbnails, or is this one
    top5: list[tuple[int, str, float]] = field(default_factory=list)


Record = Status | Frame | Picture
KINDS: dict[str, type[Record]] = {kind.__name__.lower(): kind for kind in (Status, Frame, Picture)}


def dump(record: Record) -> bytes:
    """Return a record as one line."""
    kind = type(record).__name__.lower()
    return json.dumps({"kind": kind, **asdict(record)}, separators=(",", ":")).encode() + b"\n"


def load(line: bytes) -> Record:
    """Read a line that `dump` has made."""
    fields = json.loads(line)
    kind = KINDS[fields.pop("kind")]
    if kind is Status:
        fields["edges"] = [Edge(**edge) for edge in fields["edges"]]
    return kind(**fields)
