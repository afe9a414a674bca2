"""What the page remembers: the last minutes of each edge. Pure, and bounded whatever the daemon sends."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from gradfec_web.view import Edge, Frame, Picture, Record, Status

BUCKET_S = 2.0  # the time span of one point in a chart
KEPT_S = 300.0  # how much of each edge's past to keep, and for how long an edge stays after it left
RECENT_S = 10.0  # the time span of the current numbers
KEPT_FRAMES = 100
MAX_GONE = 100  # edges that have left; the oldest are forgotten first
OVERDUE_S = 5.0  # a daemon that is silent for longer is in trouble, and the browser says so
PARTIAL, TIMEOUT = "partial", "timeout"  # outcomes


@dataclass
class Bucket:
    """The frames of BUCKET_S seconds, summed."""

    start: float  # Unix time
    frames: int = 0
    answered: int = 0
    partial: int = 0
    latency_ms: float = 0.0  # of the answered ones
    stages_ms: Counter[str] = field(default_factory=Counter)  # of the answered ones
    packets: Counter[str] = field(default_factory=Counter)
    datagrams: Counter[str] = field(default_factory=Counter)
    bursts: int = 0
    bytes: int = 0
    expected: list[float] = field(default_factory=list)  # agreement, of the frames for which it is known

    def add(self, frame: Frame) -> None:
        """Add a frame."""
        self.frames += 1
        self.packets.update(frame.packets)
        self.datagrams.update(frame.datagrams)
        self.bursts += frame.bursts
        self.bytes += frame.bytes
        self.partial += frame.outcome == PARTIAL
        if frame.expected is not None:
            self.expected.append(frame.expected)
        if frame.outcome != TIMEOUT:
            self.answered += 1
            self.latency_ms += frame.latency_ms
            self.stages_ms.update(frame.stages_ms)


@dataclass(frozen=True)
class Figures:
    """The figures of some buckets; None for unknown values."""

    frames: int
    fps: float
    unanswered: int
    partial: int  # answered although packets are missing
    latency_ms: float | None  # mean over the answered frames
    stages_ms: dict[str, float]  # likewise
    loss: float | None  # share of the datagrams
    burst: float | None  # mean number of datagrams lost in a row
    recovered: float | None  # packets a frame
    missing: float | None
    frame_bytes: float | None
    kbit_s: float
    expected: float | None  # mean agreement with the uncut network, of the frames for which it is known


def figures(buckets: Sequence[Bucket], seconds: float) -> Figures:
    """Sum up buckets that span `seconds`."""
    frames, answered = sum(b.frames for b in buckets), sum(b.answered for b in buckets)
    packets, datagrams, stages = Counter[str](), Counter[str](), Counter[str]()
    for bucket in buckets:
        packets.update(bucket.packets)
        datagrams.update(bucket.datagrams)
        stages.update(bucket.stages_ms)
    expected = [one for bucket in buckets for one in bucket.expected]
    bursts, size = sum(b.bursts for b in buckets), sum(b.bytes for b in buckets)
    told = datagrams["received"] + datagrams["lost"]
    return Figures(
        frames=frames,
        fps=frames / seconds,
        unanswered=frames - answered,
        partial=sum(b.partial for b in buckets),
        latency_ms=sum(b.latency_ms for b in buckets) / answered if answered else None,
        stages_ms={name: ms / answered for name, ms in stages.items()} if answered else {},
        loss=datagrams["lost"] / told if told else None,
        burst=datagrams["lost"] / bursts if bursts else None,
        recovered=packets["recovered"] / answered if answered else None,
        missing=packets["missing"] / answered if answered else None,
        frame_bytes=size / frames if frames else None,
        kbit_s=8 * size / 1000 / seconds,
        expected=sum(expected) / len(expected) if expected else None,
    )


@dataclass
class EdgePast:
    """One edge and its last minutes."""

    key: str  # its name, with a number if several edges share it
    edge: Edge
    began: float
    buckets: deque[Bucket] = field(default_factory=lambda: deque(maxlen=int(KEPT_S / BUCKET_S)))
    frames: deque[Frame] = field(default_factory=lambda: deque(maxlen=KEPT_FRAMES))  # the newest last
    picture: Picture | None = None
    photographed: Picture | None = None  # the newest one with a photograph; on the cloud's page, some have none

    def add(self, frame: Frame) -> None:
        """Add a frame."""
        if not self.buckets or frame.at > self.buckets[-1].start:  # otherwise it comes late
            self.advance(frame.at)
        self.buckets[-1].add(frame)
        self.frames.append(frame)

    def advance(self, now: float) -> None:
        """Add empty buckets until `now`, so that a pause shows as one."""
        start = math.floor(now / BUCKET_S) * BUCKET_S
        if not self.buckets or self.buckets[-1].start > start + RECENT_S:  # the clock was set back
            self.buckets.clear()
            self.buckets.append(Bucket(start))
        while self.buckets[-1].start < start:
            after = self.buckets[-1].start + BUCKET_S
            self.buckets.append(Bucket(max(after, start - KEPT_S)))  # skip over a jump of the clock

    def seen(self) -> Picture | None:
        """Return the newest picture with a photograph if it is not much older than the newest frame."""
        picture = self.photographed
        if picture is None or not self.frames:
            return None
        same = [frame for frame in self.frames if frame.session == picture.session]
        timely = picture.number >= same[0].number if same else picture.session == self.edge.session
        if any(frame.number == picture.number and frame.at < self.frames[-1].at - RECENT_S for frame in same):
            timely = False
        return picture if timely else None

    def why(self, now: float) -> str:
        """Return why the newest frame was planned as it was; empty if it is old, or that is not known."""
        since = max(now - RECENT_S, self.edge.since)
        frames = [frame for frame in self.frames if frame.session == self.edge.session and frame.at > since]
        return max(frames, key=lambda frame: frame.number).why if frames and self.edge.connected else ""

    def recent(self, now: float) -> Figures:
        """Sum up the last RECENT_S seconds."""
        buckets = [bucket for bucket in self.buckets if bucket.start > now - RECENT_S]
        since = max(buckets[0].start, self.began) if buckets else now
        return figures(buckets, max(now - since, BUCKET_S))

    def points(self) -> list[tuple[float, Figures]]:
        """Return the end and the figures of each full bucket."""
        return [(bucket.start + BUCKET_S, figures([bucket], BUCKET_S)) for bucket in list(self.buckets)[:-1]]


class History:
    """Everything that the page shows."""

    def __init__(self) -> None:
        self.status: Status | None = None
        self.edges: dict[str, EdgePast] = {}  # by key

    def take(self, record: Record) -> None:
        """Add a record."""
        match record:
            case Status():
                self._take_status(record)
            case Frame():
                self._past(Edge(record.edge, record.session, "", True, record.at), record.at).add(record)
            case Picture():
                past = self._past(Edge(record.edge, record.session, "", True, 0.0), 0.0)
                past.picture = record
                past.photographed = record if record.photograph else past.photographed

    def connected(self) -> list[EdgePast]:
        """Return the connected edges."""
        return [past for past in self.edges.values() if past.edge.connected]

    def find(self, key: str | None) -> EdgePast | None:
        """Return the edge of that key. If it has left, prefer a connected one of its name; if unknown, any other."""
        chosen = self.edges.get(key or "")
        here = self.connected()
        if chosen is None:
            return next(iter(here), None) or next(reversed(self.edges.values()), None)
        if chosen.edge.connected:
            return chosen
        return next((past for past in here if past.edge.name == chosen.edge.name), chosen)

    def _take_status(self, status: Status) -> None:
        self.status = status
        sessions = {edge.session for edge in status.edges}
        for past in [*self.edges.values()]:
            if past.edge.connected and past.edge.session not in sessions:
                past.edge = replace(past.edge, connected=False, since=status.at)
                if not past.frames:  # a visitor, as `gradfec doctor` is
                    del self.edges[past.key]
        for edge in sorted(status.edges, key=lambda edge: (edge.connected, edge.since)):
            if edge.connected or self._is_news(edge):
                past = self._past(edge, status.at)
                past.edge = edge
                if edge.connected:
                    past.advance(status.at)
        if status.role == "cloud":
            self._forget(status.at)

    def _is_news(self, gone: Edge) -> bool:
        """Return whether to show an edge that has left: not if the same edge has returned or left again since."""
        same = [past.edge for past in self.edges.values() if past.edge.name == gone.name]
        known = any(edge.session == gone.session for edge in same)
        return known or all(not edge.connected and edge.since <= gone.since for edge in same)

    def _forget(self, now: float) -> None:
        gone = sorted((past for past in self.edges.values() if not past.edge.connected), key=lambda p: -p.edge.since)
        for place, past in enumerate(gone):
            if place >= MAX_GONE or past.edge.since < now - KEPT_S:
                del self.edges[past.key]

    def _past(self, edge: Edge, at: float) -> EdgePast:
        """Return the past of an edge; a new session continues the past of an ended one of the same name."""
        for past in self.edges.values():
            if past.edge.session == edge.session and past.edge.name == edge.name:
                return past
        for number in count(1):
            key = edge.name if number == 1 else f"{edge.name} #{number}"
            taken = self.edges.get(key)
            if taken is None:
                self.edges[key] = EdgePast(key, edge, at)
                return self.edges[key]
            if not taken.edge.connected and taken.edge.name == edge.name:
                taken.edge, taken.began = edge, at
                return taken
        raise AssertionError("count() ends")
