"""What a daemon tells its live page: one JSON object a line, from the daemon to the page's process.

The page only looks. Nothing flows back, and a page that is slow, or has crashed, costs the daemon nothing.
"""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, field


class Cell(enum.IntEnum):
    """What became of one packet of a tensor."""

    SENT = 0  # bare, and it arrived
    PROTECTED = 1  # with parity, and it arrived
    RECOVERED = 2  # lost, and given back by parity
    LOST = 3  # lost, bare: filled
    UNRECOVERED = 4  # lost, though with parity: filled
    DROPPED = 5  # by the plan, never sent: filled
    ABSENT = 6  # not there, and nobody here knows why: dropped or lost; filled


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
    answer: list[tuple[str, float]]  # label and score, best first; empty without an answer
    packets: dict[str, int]  # as in the results files: total, dropped_by_plan, parity, sent, received, lost, ...
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
    answer: list[tuple[str, float]] = field(default_factory=list)  # as a frame's


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
