"""The live status that the cloud shows on a terminal: a line for each edge."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from rich.table import Table

from gradfec_cloud.port import address_text
from gradfec_common.session.events import Event, Finished, SessionEnded, SessionMoved, SessionOpened
from gradfec_host.live import plain_table, rest, words
from gradfec_host.progress import Progress
from gradfec_host.recent import Recent, milliseconds, percent

GONE_S = 30.0  # how long an edge that has left is shown
MOST_GONE = 16
NUMBERS = ("frames/s", "kbit/s", "loss", "recovered", "median")
TITLES = ("edge", "address", *NUMBERS, "state")


@dataclass
class _Edge:
    name: str
    address: str
    recent: Recent = field(default_factory=Recent)
    state: str = "connected"
    gone_at: float | None = None
    sends: bool = False  # `gradfec doctor` sends no frames, and is forgotten when it leaves


class EdgesStatus:
    """The open sessions, and those that ended just now."""

    def __init__(self) -> None:
        """Show no edge yet."""
        self._edges: dict[int, _Edge] = {}
        self.progress = Progress()  # of all edges

    def saw(self, event: Event) -> None:
        """Note an event of the core."""
        now = time.monotonic()
        match event:
            case SessionOpened():
                self._edges[event.session] = _Edge(event.edge, address_text(event.peer))
                self._forget(now)
            case SessionMoved() if event.session in self._edges:
                self._edges[event.session].address = address_text(event.peer)
            case SessionEnded() if event.session in self._edges:
                edge = self._edges[event.session]
                edge.state, edge.gone_at = f"gone ({event.reason})", now if edge.sends else -math.inf
                self._forget(now)
            case Finished() if event.session in self._edges:
                self._edges[event.session].sends = True
                time_ms, size = 1000 * event.latency_s, event.received_bytes
                self._edges[event.session].recent.add(now, event.datagrams, event.packets["recovered"], time_ms, size)
                self.progress.add(event.result.outcome, event.datagrams, time_ms, size)

    def _forget(self, now: float) -> None:
        """Forget edges that left long ago, and the first to leave if there are too many."""
        gone = {session: edge.gone_at for session, edge in self._edges.items() if edge.gone_at is not None}
        for rank, session in enumerate(sorted(gone, key=gone.__getitem__, reverse=True)):
            if rank >= MOST_GONE or gone[session] + GONE_S <= now:
                del self._edges[session]

    def table(self, lines: int) -> Table:
        """Draw at most `lines` lines: connected edges by name, then those that have left."""
        now = time.monotonic()
        edges = [edge for edge in [*self._edges.values()] if edge.gone_at is None or now < edge.gone_at + GONE_S]
        edges.sort(key=lambda edge: (edge.gone_at or 0.0, edge.name))
        table = plain_table(TITLES, NUMBERS, "edge", ["edge"])
        room = max(lines - 2, 1)
        for edge in edges[:room]:
            recent = edge.recent
            table.add_row(
                words(edge.name),
                edge.address,
                f"{recent.frames_per_s(now):.1f}",
                f"{recent.kbit_s(now):.0f}",
                percent(recent.loss(now)),
                str(recent.recovered(now)),
                milliseconds(recent.latency_ms(now)),
                edge.state,
            )
        for line in rest(len(edges), room) if edges else ["no edge"]:
            table.add_row(line)
        return table
