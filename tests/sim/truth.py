"""What the simulation, which sees both ends, knows to be true, and what it holds the cores to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import numpy as np

from gradfec_common import reassembly, wire
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.events import Decided, Finished, SessionOpened
from gradfec_common.wire import Report, Result

from . import bounds, nodes
from .network import STRANGE, Origin, Parcel
from .nodes import NO_SESSION, REFUSALS, UNDESERVED, Address
from .swarm import Content, Swarm

Places = dict[int, set[int]]  # by block: indices


@dataclass
class Sent:
    """A tensor that an edge has sent, and what has become of it."""

    uid: int
    content: Content
    got: Places = field(default_factory=lambda: defaultdict(set))  # at the cloud, while it still collects
    positions: set[int] = field(default_factory=set)  # the same, in send order
    refused: bool = False  # a bound of the cloud, or a shutdown, has cost it datagrams
    decided: tuple[str, int, int] | None = None  # outcome, recovered, missing
    finished: bool = False

    @property
    def complete(self) -> bool:
        """Whether every block has k symbols at the cloud."""
        return all(len(self.got[n]) >= block.k for n, block in enumerate(self.content.encoded.plan.blocks))

    @property
    def bursts(self) -> int:
        """Runs of consecutive datagrams that have not come."""
        lost = [n not in self.positions for n in range(self.content.encoded.plan.sent)]
        return sum(now and not before for before, now in zip([False, *lost], lost, strict=False))

    @property
    def answer(self) -> list[list[object]]:
        """What the back-end says of this tensor and of no other."""
        return [[self.uid % 1000, f"tensor {self.uid}", 0.5]]


Touched = dict[tuple[int, int], Sent]  # by session and tensor


@dataclass(frozen=True)
class Piece:
    """What a datagram of an edge's tensor carries."""

    session: int
    tensor: int
    block: int
    index: int
    position: int


@dataclass
class Truth:
    """The book of everything that was sent, and of who may have been lied to."""

    swarm: Swarm
    sent: dict[tuple[int, int], Sent] = field(default_factory=dict)  # by session and tensor
    pieces: dict[bytes, Piece] = field(default_factory=dict)  # by the bytes of the datagram
    peers: dict[int, Address] = field(default_factory=dict)  # of all sessions that ever were
    misled: set[int] = field(default_factory=set)  # sessions in whose name strangers have spoken
    not_sent: set[Address] = field(default_factory=set)  # addresses of whom the book has no tensors: strangers', liars'
    strangers: set[Address] = field(default_factory=set)  # addresses of those without a key
    bytes_from: Counter[Address] = field(default_factory=Counter)  # strangers
    heard: set[bytes] = field(default_factory=set)  # datagrams of tensors that have reached their session
    known_before: set[Hashable] = field(default_factory=set)  # who had a session before the batch at hand
    genuine_from: set[Address] = field(default_factory=set)  # strangers who have replayed a key holder's bytes

    # --- edges ---

    def send(self, session: int, number: int, content: Content, datagrams: list[bytes]) -> Sent:
        """Note a tensor that an edge is about to send."""
        assert (session, number) not in self.sent, "a tensor number was used twice in a session"
        sent = self.sent[session, number] = Sent(len(self.sent), content)
        for header, datagram in zip(content.encoded.headers, datagrams, strict=True):
            place = (int(header["block"]), int(header["index"]), int(header["position"]))
            assert datagram not in self.pieces, "two datagrams are the same"
            self.pieces[datagram] = Piece(session, number, *place)
        return sent

    def check_result(self, sent: Sent, result: Result) -> None:
        """An answer is the one that the back-end gave for this tensor."""
        assert result.top5 == sent.answer, "the answer is another tensor's"
        assert (result.outcome, result.recovered, result.missing) == sent.decided, "the answer's counts are wrong"

    def check_report(self, sent: Sent, report: Report) -> None:
        """A report counts what has arrived."""
        assert report.sent == sent.content.encoded.plan.sent
        assert 0 < report.received <= len(sent.positions), "the report counts more than has arrived"
        if not sent.refused:
            assert report.received == len(sent.positions), "the report counts less than has arrived"
            assert report.bursts == sent.bursts, "the report counts other bursts than there were"

    # --- the cloud ---

    def before(self, cloud: CloudSessions, parcels: Iterable[Parcel]) -> Touched:
        """Note what of the tensors a batch brings to the cloud; return the tensors that still are to hear of it."""
        touched: Touched = {}
        self.known_before = {session.peer for session in nodes.sessions_of(cloud).values()}
        for parcel in parcels:
            self._note_source(cloud, parcel)
            piece = self.pieces.get(parcel.payload)
            if piece is None or self._peer(cloud, piece.session) != parcel.source or piece.session in self.misled:
                continue
            self.heard.add(parcel.payload)
            sent = self.sent[piece.session, piece.tensor]
            tensor = nodes.tensor_of(cloud, piece.session, piece.tensor)
            if tensor is None:
                newest = nodes.sessions_of(cloud)[piece.session].newest
                sent.refused |= piece.tensor < newest - cloud.limits.tensor_window
            if tensor.report is None if tensor else sent.decided is None:
                sent.got[piece.block].add(piece.index)
                sent.positions.add(piece.position)
                touched[piece.session, piece.tensor] = sent
        return touched

    def is_powerless(self, parcel: Parcel) -> bool:
        """Tell whether a datagram may change nothing where there are keys: nobody's with a key, or heard before."""
        return parcel.origin in STRANGE or parcel.payload in self.heard

    def _note_source(self, cloud: CloudSessions, parcel: Parcel) -> None:
        if parcel.source in self.strangers:
            self.bytes_from[parcel.source] += len(parcel.payload)
            if parcel.origin not in STRANGE:
                self.genuine_from.add(parcel.source)
        elif parcel.origin is Origin.FORGED and not nodes.AUTHENTICATED:
            self.misled |= {
                session.id for session in nodes.sessions_of(cloud).values() if session.peer == parcel.source
            }

    def _peer(self, cloud: CloudSessions, session: int) -> Address | None:
        return self.peers[session] if session in nodes.sessions_of(cloud) else None

    def after(self, cloud: CloudSessions, parcels: list[Parcel], touched: Touched, fates: Counter[str]) -> None:
        """Check what the cloud has made of a batch, before anything else happens; `fates` are those of this batch."""
        assert sum(fates.values()) == len(parcels), "a datagram without exactly one fate at the cloud"
        if any(fates[reason] for reason in REFUSALS):
            for sent in touched.values():
                sent.refused = True
        known = self.known_before | {session.peer for session in nodes.sessions_of(cloud).values()}
        if not (fates["hello"] and fates["bye"]):  # or somebody may have come and gone
            heard = sum(parcel.source in known for parcel in parcels)
            used = sum(count for fate, count in fates.items() if fate not in NO_SESSION)
            assert used <= heard, "a datagram from an address without a session was taken for a session's"
        strange = any(parcel.origin is not Origin.GENUINE for parcel in parcels)
        if not strange and not self.misled:
            undeserved = {reason.value: fates[reason] for reason in UNDESERVED if fates[reason]}
            assert not undeserved, f"an honest datagram is {undeserved}"
        for (session, number), sent in touched.items():
            tensor = nodes.tensor_of(cloud, session, number)
            if tensor is None or sent.refused:
                continue
            assert tensor.arrived.received == len(sent.positions), "a tensor counts other datagrams than have arrived"
            assert tensor.decided or not sent.complete, "k symbols of each block came in time, and it is not decided"

    def opened(self, event: SessionOpened, parcels: list[Parcel]) -> None:
        """Note a new session; one that a stranger may have opened in an edge's name is not to be believed."""
        assert event.session not in self.peers, "a session's number comes again"
        self.peers[event.session] = event.peer
        lies = any(parcel.origin is Origin.FORGED and parcel.source == event.peer for parcel in parcels)
        if lies and not nodes.AUTHENTICATED:
            self.misled.add(event.session)
        if nodes.AUTHENTICATED:
            assert event.peer not in self.strangers - self.genuine_from, "a session was opened for a stranger"

    def decided(self, event: Decided) -> Sent | None:
        """Decode a tensor and compare it with what was sent; None where only a liar could know what that is."""
        decoded = reassembly.decode_tensor(event.arrived)
        grid, shape = self.swarm.grid, self.swarm.shape
        assert decoded.chi.shape == shape and np.isfinite(decoded.chi).all(), "features that no back-end could take"
        if event.session in self.misled or self.peers[event.session] in self.not_sent:
            return None
        assert (event.session, event.tensor) in self.sent, "a tensor was decided that nobody has sent"
        sent = self.sent[event.session, event.tensor]
        assert sent.decided is None, "a tensor was decided twice"
        plan = sent.content.encoded.plan
        packets = grid.split(decoded.chi)
        there = packets.any(axis=1)
        assert (packets[there] == sent.content.packets[there]).all(), "a packet of the tensor is wrong"
        assert decoded.conflicting == 0, "packets claim the same place"
        assert int(there.sum()) == plan.kept - decoded.missing, "missing packets are miscounted"
        assert event.complete == (decoded.missing == 0)
        assert sent.complete or not event.complete, "complete without k symbols of each block"
        if not sent.refused:
            received = sum(index < block.k for n, block in enumerate(plan.blocks) for index in sent.got[n])
            assert event.complete == sent.complete, "k symbols of each block came in time, and it is not complete"
            assert plan.kept == received + decoded.recovered + decoded.missing, "recovered packets are miscounted"
        sent.decided = ("complete" if event.complete else "partial", decoded.recovered, decoded.missing)
        return sent

    def finished(self, event: Finished) -> None:
        """Check a tensor's last record against what has arrived."""
        sent = self.sent.get((event.session, event.tensor))
        if sent is None or event.session in self.misled:
            return
        assert not sent.finished, "a tensor was finished twice"
        sent.finished = True
        self.check_result(sent, event.result)
        if not sent.refused:
            assert event.packets["received"] == len(sent.positions), "a record counts other datagrams than have arrived"

    def check_reply(self, destination: Address, size: int) -> None:
        """Strangers get no answer; who has only heard a key holder's bytes, no more than it sent."""
        if nodes.AUTHENTICATED and destination in self.strangers:
            assert destination in self.genuine_from, "bytes were sent to a stranger"
            self.bytes_from[destination] -= size
            assert self.bytes_from[destination] >= 0, "more bytes were sent to a stranger than came from there"

    def check_cloud(self, cloud: CloudSessions, owed: int) -> None:
        """Cheap bounds, after every step."""
        limits, tensors = cloud.limits, cloud.tensors
        ended = sum(count for fate, count in tensors.items() if fate != "opened")
        assert tensors["opened"] == ended + cloud.open_tensors, "a tensor without exactly one fate"
        assert cloud.open_sessions <= limits.sessions, "more sessions than the limit"
        assert cloud.held_bytes <= limits.reassembly_bytes, "more bytes are held than the limit"
        assert owed <= limits.pending_tensors, "more tensors are with the back-end than the limit"
        timers = bounds.timers_for(cloud.open_tensors + cloud.unacknowledged)
        assert nodes.timers_of(cloud) <= timers, "more timers than there are tensors and answers to wait for"
        for session in nodes.sessions_of(cloud).values():
            collecting = sum(not tensor.decided for tensor in session.tensors.values())
            assert collecting <= limits.tensors_per_session, "more tensors are collected than the limit"
            assert len(session.tensors) <= limits.tensors_per_session + limits.pending_tensors
            assert len(session.answers) <= limits.answers_per_session, "more answers are kept than the limit"
            assert len(session.finished) <= 2 * limits.tensor_window + 1, "more finished tensors than the limit"

    def check_times(self, cloud: CloudSessions, now: float) -> None:
        """When the timers have been handled, no tensor is collected beyond its time."""
        for session in nodes.sessions_of(cloud).values():
            for tensor in session.tensors.values():
                if tensor.report is None:
                    assert tensor.first_at + cloud.deadline_s > now, "a tensor is collected beyond its deadline"
                    assert tensor.closes_at > now, "a tensor is not closed in time"

    def check_size(self, cloud: CloudSessions) -> None:
        """Costly bounds, now and then: nothing in the core grows beyond what follows from its limits."""
        limits, grid = cloud.limits, self.swarm.grid
        elements, array_bytes = bounds.census(cloud)
        assert elements <= bounds.most_elements(limits), "more is kept than the limits allow for"
        most = bounds.most_array_bytes(limits, grid, wire_max_sent(grid.count))
        assert array_bytes <= most, "larger arrays are kept than the limits allow for"
        if nodes.AUTHENTICATED:
            known = {thing for thing in bounds.walk(cloud) if isinstance(thing, tuple) and thing in self.strangers}
            assert known <= self.genuine_from, "state is kept for a stranger"


def wire_max_sent(count: int) -> int:
    """Return the most symbols that a tensor of `count` packets may have."""
    return min(reassembly.MAX_SENT_PER_PACKET * count, wire.MAX_SYMBOLS)
