"""The records that a daemon sends to its live page: one JSON object a line, to the page's process.

The page is read-only: nothing flows back, and a slow or crashed page costs the daemon nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

Settings = Mapping[str, object]  # by the option's name; the page puts the values into words


@dataclass(frozen=True)
class Edge:
    """One edge, as it is now."""

    name: str
    session: int
    address: str
    connected: bool
    since: float  # Unix time: when it connected, or left
    said: str = ""  # why it left, why it cannot connect, or why its camera sends no frames
    warnings: list[str] = field(default_factory=list)  # that hold now; only on the edge's page
    settings: Settings = field(default_factory=dict)  # this camera's; only on the edge's page

    @property
    def protect(self) -> str:
        """The policy, as the user writes it; empty on the cloud's page, which does not know it."""
        return str(self.settings.get("protect", ""))


@dataclass(frozen=True)
class Workers:
    """A cloud's workers in other processes, on any machine."""

    ready: int
    wanted: int
    lost: int  # since the start
    fallback: bool  # the cloud's own process does the work, because no worker is there


@dataclass(frozen=True)
class Status:
    """The whole daemon, about once a second."""

    role: str  # "edge" or "cloud"
    at: float  # Unix time
    title: str  # the cloud's address, or the camera
    settings: Settings  # of the whole daemon
    insecure: bool
    edges: list[Edge]
    counters: dict[str, dict[str, int]]  # family -> name -> count since the start, as in the daemon's totals
    workers: Workers | None = None  # None if the daemon has none
    not_ready: str = ""  # why a cloud welcomes no edge now


@dataclass(frozen=True)
class Frame:
    """A finished frame."""

    edge: str
    session: int
    number: int  # of the tensor
    at: float  # Unix time
    outcome: str  # complete, partial or timeout
    answer: list[tuple[str, float]]  # label and score, best first; empty without an answer
    packets: dict[str, int]  # as in the results files; what is not known is left out
    datagrams: dict[str, int]  # likewise
    bursts: int  # runs of consecutive lost datagrams
    latency_ms: float
    stages_ms: dict[str, float]
    source: str = ""  # the file or camera; only on the edge's page
    bytes: int = 0  # of UDP payload: on the edge's page sent, on the cloud's received
    why: str = ""  # it was planned as it was; only on the edge's page, and if the link decides
    expected: float | None = None  # agreement with the uncut network; likewise


@dataclass(frozen=True)
class Picture:
    """What became of each packet of one tensor, and how much it mattered; about one a second for each edge."""

    edge: str
    session: int
    number: int
    channels: int
    groups: int  # packets in a channel
    cells: str  # base64 of (channels * groups,) uint8 of Cell, channel by channel
    importance: str = ""  # base64 of (channels * groups,) uint8, 255 for the most important; empty if unknown
    photograph: str = ""  # base64 of a JPEG; only on the edge's page, or if it sends thumbnails
    answer: list[tuple[str, float]] = field(default_factory=list)  # as a frame's
    ratio: float = 1.0  # of the photograph's width to its height
    of_file: bool = False  # whether the packets are pieces of an image file, and not of features
    # Label, score, and left, top, right, bottom in fractions of the photograph; None if the network finds no places.
    boxes: list[tuple[str, float, tuple[float, float, float, float]]] | None = None

    @property
    def ranked(self) -> bool:
        """Whether it is known that some packets matter more than others. All pieces of a file are needed."""
        return bool(self.importance) and not self.of_file


@dataclass(frozen=True)
class Answer:
    """A finished frame, as a results file has it; only from the cloud, for its HTTP API."""

    edge: str
    record: Mapping[str, object]


Record = Status | Frame | Picture | Answer
KINDS: dict[str, type[Record]] = {kind.__name__.lower(): kind for kind in (Status, Frame, Picture, Answer)}


def in_base64(data: bytes) -> str:
    """Write bytes as a field of a picture."""
    return base64.b64encode(data).decode()


def dump(record: Record) -> bytes:
    """Write a record as one line."""
    kind = type(record).__name__.lower()
    return json.dumps({"kind": kind, **asdict(record)}, separators=(",", ":"), default=str).encode() + b"\n"


def load(line: bytes) -> Record:
    """Read a line that `dump` wrote."""
    fields = json.loads(line)
    kind = KINDS[fields.pop("kind")]
    if kind is Status:
        fields["edges"] = [Edge(**edge) for edge in fields["edges"]]
        fields["workers"] = Workers(**fields["workers"]) if fields.get("workers") else None
    return kind(**fields)
