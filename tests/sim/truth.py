"""What the simulation knows, because it sees both ends, and what it checks after every step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gradfec_common import decode, reassembly, wire
from gradfec_common.decode import DecodedTensor
from gradfec_common.heads import Classes
from gradfec_common.protect import Plan
from gradfec_common.reassembly import Reassembly
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.events import Decided, Finished, SessionEnded, SessionOpened, Sketched
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.session.states import TensorState
from gradfec_common.wire import Drop, Report, Result
from gradfec_common.wire.symbol import FORM_BYTE, MAX_SENT_PER_PACKET

from . import bounds, nodes
from .ledger import Ledger
from .network import Parcel
from .nodes import POWERLESS, REFUSALS, UNDESERVED, Address
from .swarm import Content, Swarm

Indices = dict[int, set[int]]  # of datagrams, by group


@dataclass
class Sent:
    """A tensor that an edge has sent, and what has become of it."""

    uid: int
    content: Content
    first: int | None = None  # the number of its frame's first tensor, if it is a second look
    got: Indices = field(default_factory=lambda: defaultdict(set))  # at the cloud, while it still collects
    positions: set[int] = field(default_factory=set)  # the same, in send order
    refused: bool = False  # the cloud has refused some of its datagrams: no room, or leaving
    decided: tuple[str, int, int] | None = None  # outcome, recovered, missing
    finished: bool = False

    @property
    def plan(self) -> Plan:
        """What the edge has done with the packets."""
        return self.content.plan

    @property
    def complete(self) -> bool:
        """Whether of each group so many datagrams have come that every stripe is whole."""
        return all(len(self.got[n]) >= stripe.k for n, group in enumerate(self.plan.groups) for stripe in group.stripes)

    @property
    def came(self) -> set[int]:
        """The places of packets that have come themselves, in a data symbol."""
        came = set()
        for n, group in enumerate(self.plan.groups):
            for stripe in group.stripes:
                in_order, starts = stripe.packets.tolist(), stripe.packing.starts.tolist()
                for index in self.got[n]:
                    if index < stripe.k:
                        came.update(in_order[starts[index] : starts[index + 1]])
        return came

    @property
    def whole(self) -> set[int]:
        """The places of packets whose stripe is whole: k datagrams of its group have come."""
        groups = enumerate(self.plan.groups)
        whole = [stripe for n, group in groups for stripe in group.stripes if len(self.got[n]) >= stripe.k]
        return set().union(*(stripe.packets.tolist() for stripe in whole))

    def bursts(self, due: int) -> int:
        """Runs of consecutive datagrams, of the first `due`, that have not arrived."""
        lost = [n not in self.positions for n in range(due)]
        return sum(now and not before for before, now in zip([False, *lost], lost, strict=False))

    @property
    def answer(self) -> Classes:
        """What the back-end answers for this tensor only."""
        return Classes(((self.uid % 1000, f"tensor {self.uid}", 0.5),))


class Due(NamedTuple):
    """What the back-end is to answer to a tensor."""

    answer: Classes
    recovered: int
    missing: int


Touched = dict[tuple[int, int], Sent]  # by session and tensor


class Piece(NamedTuple):
    """What a datagram of an edge's tensor carries."""

    session: int
    tensor: int
    group: int
    index: int
    position: int


@dataclass
class Cloud:
    """What is known of one life of the cloud."""

    came: Counter[Address] = field(default_factory=Counter)  # bytes, of anything
    paid: Counter[Address] = field(default_factory=Counter)  # bytes, authentic and new
    went: Counter[Address] = field(default_factory=Counter)
    paid_of: Counter[tuple[int, Address]] = field(default_factory=Counter)  # by session
    went_of: Counter[tuple[int, Address]] = field(default_factory=Counter)
    greeted: dict[bytes, dict[bytes, Address]] = field(default_factory=lambda: defaultdict(dict))  # by hello, welcome
    begun: dict[int, float] = field(default_factory=dict)  # sessions: when
    where: dict[int, tuple[int, Address]] = field(default_factory=dict)  # sessions: their newest counter, from where
    taken: Counter[int] = field(default_factory=Counter)  # datagrams, by session
    answered: Counter[int] = field(default_factory=Counter)  # datagrams of answered tensors, by session
    opened: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    edges: set[int] = field(default_factory=set)  # sessions that were in use at the last look
    held: Counter[int] = field(default_factory=Counter)  # bytes of symbols then, by session
    pending: Counter[int] = field(default_factory=Counter)  # tensors with the back-end then, by session


@dataclass
class Truth:
    """Everything that was sent, and what the cloud may and must make of it."""

    swarm: Swarm
    ledger: Ledger
    keys: Mapping[bytes, HandshakeKey] = field(default_factory=dict)  # that the cloud has
    requests: Counter[tuple[int, int]] = field(default_factory=Counter)  # by session and tensor
    sent: dict[tuple[int, int], Sent] = field(default_factory=dict)  # by session and tensor
    pieces: dict[bytes, Piece] = field(default_factory=dict)  # by the bytes of the datagram
    lies: set[bytes] = field(default_factory=set)  # hellos of key holders who lie
    homes: dict[bytes, set[Address]] = field(default_factory=lambda: defaultdict(set))  # of hellos: who sent them
    cloud: Cloud = field(default_factory=Cloud)
    keys_changed: bool = False
    strays: int = 0  # welcomes to an address that has only replayed a hello

    # --- edges ---

    def send(self, session: int, number: int, content: Content, first: int | None = None) -> Sent:
        """Note a tensor that an edge is about to send, as a second look at the frame of its `first` one, if any."""
        assert (session, number) not in self.sent, "a tensor number was used twice in a session"
        assert first is None or (session, first) in self.sent, "a second look at a tensor that the session has not"
        sent = self.sent[session, number] = Sent(len(self.sent), content, first)
        return sent

    def seal(self, session: int, number: int, first: int, datagrams: list[bytes]) -> None:
        """Note what a tensor's datagrams carry, from the one at position `first` on."""
        sent = self.sent[session, number]
        labels, back = sent.content.labels, 0 if sent.first is None else number - sent.first
        for position, datagram in enumerate(datagrams, first):
            assert datagram not in self.pieces, "two datagrams are the same"
            said = self.ledger.sealed[datagram].body[FORM_BYTE]
            assert (said & 3, said >> 2) == (sent.content.form, back), "a datagram says another form, or another frame"
            self.pieces[datagram] = Piece(session, number, *labels[position], position)

    def check_result(self, sent: Sent, result: Result) -> None:
        """An answer is the one that the back-end gave for this tensor."""
        assert result.answer == sent.answer.packed(), "the answer is another tensor's"
        assert (result.outcome, result.recovered, result.missing) == sent.decided, "the answer's counts are wrong"

    def check_report(self, sent: Sent, report: Report) -> None:
        """A report counts what has arrived."""
        assert sent.plan.unasked <= report.sent <= sent.plan.sent
        assert 0 < report.received <= len(sent.positions), "the report counts more than has arrived"
        if not sent.refused:
            assert report.received == len(sent.positions), "the report counts less than has arrived"
            assert report.bursts == sent.bursts(report.sent), "the report counts other bursts than there were"
        told = reassembly.read_map(report.arrived, sent.plan.sent)
        assert (told is not None) == (report.received >= -(-sent.plan.sent // 8)), (
            "a map that is not paid for, or is missing"
        )
        if told is not None:
            positions = set(np.flatnonzero(told).tolist())
            assert positions <= sent.positions and len(positions) == report.received, "the report maps other datagrams"

    def check_request(self, datagram: bytes) -> None:
        """The cloud asks for more of a tensor in so many rounds, and once if it has not heard of it."""
        sealed = self.ledger.sealed.get(datagram)
        message = wire.read_message(sealed.body) if sealed else None
        if sealed and isinstance(message, wire.Request):
            self.requests[sealed.session, message.tensor] += 1
            most = self.swarm.cloud.request_rounds + 1
            assert self.requests[sealed.session, message.tensor] <= most, "a tensor is asked for too often"

    def is_liars(self, session: int) -> bool:
        """Return whether a session belongs to a liar."""
        return self.ledger.sessions[session].hello in self.lies

    # --- what comes to the cloud ---

    def is_powerless(self, cloud: CloudSessions, parcel: Parcel, now: float) -> bool:
        """Return whether a datagram must change nothing: it was made without a key, or it is of no use any more."""
        payload = parcel.payload
        if (sealed := self.ledger.sealed.get(payload)) is not None:
            open_now = sealed.session in nodes.sessions_of(cloud)
            upwards = open_now and self.ledger.sessions[sealed.session].up == sealed.secret
            return not upwards or payload in self.ledger.accepted
        if payload not in self.ledger.hellos:
            return True
        if payload[8:16] not in cloud._reception.keys:
            return True
        answered = self.cloud.greeted.get(payload, {})
        remembered = answered and not cloud.bites["greetings"]
        return bool(remembered) and parcel.source not in answered.values()

    def is_powerless_at_edge(self, hello: bytes, session: int, datagram: bytes) -> bool:
        """Return the same for a datagram that comes to an edge with a hello at hand and a session."""
        if (welcomed := self.ledger.welcomes.get(datagram)) is not None:
            return welcomed.hello != hello
        sealed = self.ledger.sealed.get(datagram)
        if sealed is None or sealed.session != session or datagram in self.ledger.accepted:
            return True
        return self.ledger.sessions[session].down != sealed.secret

    def _is_honest(self, payload: bytes) -> bool:
        """Return whether an honest edge has made a datagram, and it has not been changed since."""
        if payload in self.ledger.hellos:
            return payload not in self.lies
        sealed = self.ledger.sealed.get(payload)
        if sealed is None or sealed.session not in self.ledger.sessions:
            return False
        return self.ledger.sessions[sealed.session].up == sealed.secret and not self.is_liars(sealed.session)

    def before(self, cloud: CloudSessions, parcels: Iterable[Parcel]) -> Touched:
        """Note what comes to the cloud; return the tensors that may still receive some of it."""
        touched: Touched = {}
        for parcel in parcels:
            self.cloud.came[parcel.source] += len(parcel.payload)
            piece = self.pieces.get(parcel.payload)
            if piece is None or piece.session not in nodes.sessions_of(cloud):
                continue
            sent = self.sent[piece.session, piece.tensor]
            tensor = nodes.tensor_of(cloud, piece.session, piece.tensor)
            if tensor is None:
                newest = nodes.newest_of(cloud, piece.session)
                sent.refused |= piece.tensor < newest - cloud.limits.tensor_window
            if tensor.state is not TensorState.CLOSED if tensor else sent.decided is None:
                touched[piece.session, piece.tensor] = sent
        return touched

    def after(self, cloud: CloudSessions, parcels: list[Parcel], touched: Touched, fates: Counter[str]) -> None:
        """Check what the cloud has made of a batch, before anything else happens; `fates` are those of this batch."""
        assert sum(fates.values()) == len(parcels), "a datagram without exactly one fate at the cloud"
        accepted = self.ledger.take()
        waiting = set(accepted)
        for parcel in parcels:
            if parcel.payload in waiting:
                waiting.discard(parcel.payload)
                self._accept(parcel, touched)
        assert not waiting, "something was accepted that has not arrived"
        used = sum(count for fate, count in fates.items() if fate not in (*POWERLESS, "hello", Drop.BAD_MESSAGE))
        assert used <= len(accepted), "a datagram that was not accepted was used"
        if any(fates[reason] for reason in REFUSALS):
            for sent in touched.values():
                sent.refused = True
        dishonest = sum(not self._is_honest(parcel.payload) for parcel in parcels)
        never = UNDESERVED if self.keys_changed else (*UNDESERVED, Drop.UNKNOWN_KEY)
        undeserved = {reason.value: fates[reason] for reason in never if fates[reason]}
        assert sum(undeserved.values()) <= dishonest, f"an honest datagram is {undeserved}"
        heard = {self.ledger.sealed[datagram].session for datagram in accepted}
        for here in (tensor.arrived for tensor in nodes.tensors_of(cloud, heard)):
            check_books(here)
        for (session, number), sent in touched.items():
            tensor = nodes.tensor_of(cloud, session, number)
            if tensor is None or sent.refused:
                continue
            assert tensor.arrived.received == len(sent.positions), "a tensor counts other datagrams than have arrived"
            collecting = tensor.state is TensorState.COLLECTING
            assert not collecting or not sent.complete, "every stripe is whole in time, and it is not decided"

    def _accept(self, parcel: Parcel, touched: Touched) -> None:
        """Note that a datagram was authentic and new."""
        session, counter = self.ledger.sealed[parcel.payload][1:3]
        size = len(parcel.payload)
        self.cloud.paid[parcel.source] += size
        self.cloud.paid_of[session, parcel.source] += size
        self.cloud.taken[session] += 1
        if counter > self.cloud.where.get(session, (-1, None))[0]:
            self.cloud.where[session] = counter, parcel.source
        piece = self.pieces.get(parcel.payload)
        if piece is not None and (sent := touched.get((session, piece.tensor))) is not None:
            sent.got[piece.group].add(piece.index)
            sent.positions.add(piece.position)

    # --- what the cloud tells its shell ---

    def opened(self, event: SessionOpened) -> None:
        """A session opens only for somebody who has a key and has heard the welcome."""
        welcomed = self.ledger.sessions[event.session]
        assert event.session not in self.cloud.opened, "a session was opened twice"
        assert self.cloud.taken[event.session], "a session was opened for somebody who has not used it"
        assert welcomed.key in self.keys, "a session was opened under a key that the cloud does not have"
        assert event.edge == (self.keys[welcomed.key].label or welcomed.name), "a session has another's name"
        self.cloud.opened.add(event.session)

    def ended(self, event: SessionEnded) -> None:
        """A session that has ended does not come back."""
        assert event.session in self.cloud.opened - self.cloud.ended, "a session ends twice, or was never open"
        if event.reason == "key removed":
            assert self.ledger.sessions[event.session].key not in self.keys, "a session ends though its key is there"
        self.cloud.ended.add(event.session)

    def decided(self, event: Decided) -> Due:
        """Decode a tensor, compare it with what was sent unless a liar sent it, and return what to answer."""
        decoded = decode.decode_tensor(event.arrived, self.swarm.conceal)
        check_decoded(decoded, event.arrived, self.swarm)
        if self.is_liars(event.session):
            return Due(Classes(()), decoded.recovered, decoded.missing)
        assert (event.session, event.tensor) in self.sent, "a tensor was decided that nobody has sent"
        sent = self.sent[event.session, event.tensor]
        assert sent.decided is None, "a tensor was decided twice"
        assert event.cut == self.swarm.cuts[sent.content.form], "a tensor goes to another cut's back-end"
        packets, found = self.swarm.grid.split(decoded.tensor), decoded.found
        assert (packets[found.places] == sent.content.packets[found.places]).all(), "a packet of the tensor is wrong"
        assert decoded.conflicting == 0, "packets claim the same place"
        assert len(found.places) + decoded.missing == sent.plan.kept, "missing packets are miscounted"
        assert not event.complete or decoded.missing == 0, "complete though packets are missing"
        places, came = set(found.places.tolist()), sent.came
        at_hand = came | sent.whole
        assert places <= at_hand, "packets are there that have not come"
        assert sent.complete or not event.complete, "complete though a stripe is not whole"
        if not sent.refused:
            assert event.complete == sent.complete, "every stripe is whole in time, and it is not complete"
            assert places == at_hand, "packets are not there that have come"
            assert set(found.places[found.recovered].tolist()) == places - came, "other packets are recovered"
        protected = {place for n, stripe in sent.plan.stripes if n > stripe.k for place in stripe.packets.tolist()}
        assert set(found.places[found.protected].tolist()) == places & protected, "other packets are protected"
        sent.decided = ("complete" if event.complete else "partial", decoded.recovered, decoded.missing)
        return Due(sent.answer, decoded.recovered, decoded.missing)

    def finished(self, event: Finished) -> None:
        """Compare the last record of a tensor with what has arrived."""
        packets, datagrams = event.packets, event.datagrams
        assert datagrams["received"] + datagrams["lost"] == datagrams["sent"], "datagrams without exactly one fate"
        assert min(*packets.values(), *datagrams.values()) >= 0, "less than nothing"
        first = event.first_tensor
        assert first is None or max(event.tensor - 63, 0) <= first < event.tensor, "an impossible frame"
        sent = self.sent.get((event.session, event.tensor))
        if sent is None:
            assert self.is_liars(event.session), "a tensor was finished that nobody has sent"
            return
        assert not sent.finished, "a tensor was finished twice"
        sent.finished = True
        assert event.first_tensor == sent.first, "a record is of another frame"
        self.check_result(sent, event.result)
        assert packets["total"] == sent.plan.total
        assert sent.plan.unasked <= datagrams["sent"] <= sent.plan.sent
        assert packets["dropped_by_plan"] == len(sent.plan.dropped), "packets without exactly one fate"
        assert (event.result.outcome, packets["recovered"], packets["missing"]) == sent.decided, "another record"
        unsent = sent.plan.sent - datagrams["sent"]
        assert datagrams["parity"] <= sent.plan.parity + sent.plan.reserve - unsent, "more parity than was sent"
        if not sent.refused:
            assert datagrams["received"] == len(sent.positions), "a record counts other datagrams than have arrived"
            heard = [group.n - group.shape.most_k for n, group in enumerate(sent.plan.groups) if sent.got[n]]
            assert datagrams["parity"] == sum(heard) - unsent, "a record counts other parity than was heard of"

    def sketched(self, event: Sketched) -> None:
        """A sketch is whole and belongs to its tensor."""
        grid = self.swarm.grid
        assert event.sketch.fates.shape == event.sketch.importance.shape == (grid.count,)
        if not self.is_liars(event.session):
            sketch = self.sent[event.session, event.tensor].content.sketch
            assert all(map(np.array_equal, event.sketch, sketch)), "a sketch differs from the one that was sent"

    # --- what the cloud says ---

    def check_reply(
        self, datagram: bytes, to: Address, hellos: Counter[tuple[bytes, Address]], forgotten: int, now: float
    ) -> None:
        """An address gets an answer only after it has sent something authentic and new, and never more bytes than that.

        `hellos` are those of the batch at hand, to be answered once each; the cloud has forgotten `forgotten` others.
        """
        book, size = self.cloud, len(datagram)
        book.went[to] += size
        if (welcomed := self.ledger.welcomes.get(datagram)) is not None:
            assert hellos[welcomed.hello, to], "a welcome to an address that has not sent this hello"
            hellos[welcomed.hello, to] -= 1
            assert size <= len(welcomed.hello), "a welcome is longer than its hello"
            answers = book.greeted[welcomed.hello]
            assert answers.setdefault(datagram, to) == to, "a hello is answered to two addresses"
            assert len(answers) <= 1 + forgotten, "a hello has two answers"
            self.strays += to not in self.homes[welcomed.hello]
            session = welcomed.session
            book.paid[to] += len(welcomed.hello)
            book.paid_of[session, to] += len(welcomed.hello)
            if session and book.begun.setdefault(session, now) == now:
                book.where.setdefault(session, (-1, to))
        else:
            sealed = self.ledger.sealed.get(datagram)
            assert sealed is not None, "the cloud sends something that nobody has sealed"
            session = sealed.session
            assert self.ledger.sessions[session].down == sealed.secret, "an answer is sealed for another edge"
            assert book.taken[session], "a message to an edge that has not used its session"
            message = wire.read_message(sealed.body)
            if isinstance(message, Result) and not self.is_liars(session):
                assert (session, message.tensor) in self.sent, "an answer goes to an edge that has not sent the tensor"
                self.check_result(self.sent[session, message.tensor], message)
        book.went_of[session, to] += size
        assert book.went[to] <= book.paid[to] <= book.came[to], "an address gets more bytes than it has sent"
        if session:
            assert book.went_of[session, to] <= book.paid_of[session, to], "an edge gets more bytes than it has sent"

    # --- bounds ---

    def check_cloud(self, cloud: CloudSessions, owed: int, now: float) -> None:
        """Check cheap bounds, after every step."""
        limits, tensors, book = cloud.limits, cloud.tensors, self.cloud
        ended = sum(count for fate, count in tensors.items() if fate != "opened")
        assert tensors["opened"] == ended + cloud.open_tensors, "a tensor without exactly one fate"
        sessions = nodes.sessions_of(cloud)
        assert len(sessions) <= limits.sessions, "more sessions than the limit"
        assert cloud.held_bytes <= limits.reassembly_bytes, "more bytes are held than the limit"
        pending = max(limits.pending_tensors, limits.sessions)
        assert owed <= pending, "more tensors are with the back-end than the limit"
        for places, waiting in nodes.timer_places_of(cloud):
            assert places <= bounds.places_for(waiting), "more timers than there are tensors and answers to wait for"
        greetings, addresses = nodes.greetings_of(cloud)
        assert greetings <= limits.greetings and addresses <= limits.addresses, "more hellos are kept than the limit"
        assert book.ended.isdisjoint(sessions), "a session goes on after its end"
        of_key = Counter(session.key.id for session in sessions.values())
        assert max(of_key.values(), default=0) <= limits.sessions_per_key, "more sessions of a key than the limit"
        self._check_shares(cloud)
        per_s, burst = self._allowed(cloud)
        for number, session in sessions.items():
            assert session.key.id in self.keys, "a session goes on after its key is removed"
            assert session.is_open == (number in book.opened), "a session is used before it is"
            assert session.peer == book.where[number][1], "a session is not where its newest datagram came from"
            assert session.credit >= 0
            allowed = burst + per_s * (now - book.begun[number]) + 2 * book.answered[number]
            assert book.taken[number] <= allowed + self.swarm.batch, "a session has sent more than it may"
            tensors = nodes.tensors_of(cloud, [number])
            collecting = sum(tensor.state is TensorState.COLLECTING for tensor in tensors)
            assert collecting <= limits.tensors_per_session, "more tensors are collected than the limit"
            assert len(tensors) <= limits.tensors_per_session + limits.pending_tensors
            answers, finished = nodes.unacknowledged_of(cloud, number), nodes.finished_of(cloud, number)
            assert answers <= limits.answers_per_session, "more answers are kept than the limit"
            assert finished <= 2 * limits.tensor_window + 1, "more finished tensors than the limit"
            held = nodes.sketch_bytes_of(cloud, number)
            assert held <= limits.sketch_bytes, "more of a sketch is held than the limit"

    def _check_shares(self, cloud: CloudSessions) -> None:
        """Check that no session gets more than an equal share."""
        book, limits, sessions = self.cloud, cloud.limits, nodes.sessions_of(cloud)
        edges = {number for number, session in sessions.items() if session.is_open}
        sharing = len(edges & book.edges) or 1  # ever since the last look
        held = Counter({number: nodes.held_by(cloud, number) for number in sessions})
        pending = Counter({number: nodes.pending_of(cloud, number) for number in sessions})
        most_pending = max(limits.pending_tensors, sharing) // sharing
        for number in edges:
            more = held[number] > book.held[number]
            assert not more or held[number] <= limits.reassembly_bytes // sharing, "more than a share of memory is held"
            more = pending[number] > book.pending[number]
            assert not more or pending[number] <= most_pending, "more than a share of tensors is with the back-end"
        book.edges, book.held, book.pending = edges, held, pending

    def _allowed(self, cloud: CloudSessions) -> tuple[float, float]:
        limits, count = cloud.limits, self.swarm.grid.count
        per_s = max(limits.tensors_per_s * count, self.ledger.per_s)
        return per_s, max(limits.tensors_per_session * count, self.ledger.burst)

    def check_times(self, cloud: CloudSessions, now: float) -> None:
        """Check, after the timers, that no tensor is collected beyond its time."""
        for tensor in nodes.tensors_of(cloud, nodes.sessions_of(cloud)):
            if tensor.state is not TensorState.CLOSED:
                assert tensor.first_at + cloud.deadline_s > now, "a tensor is collected beyond its deadline"
                assert tensor.closes_at > now, "a tensor is not closed in time"

    def check_size(self, cloud: CloudSessions) -> None:
        """Check costly bounds, now and then: nothing in the core grows beyond what its limits allow."""
        limits, grid = cloud.limits, self.swarm.grid
        elements, array_bytes = bounds.census(cloud)
        assert elements <= bounds.most_elements(limits, cloud.counts["hello"]), "more is kept than the limits allow for"
        most = bounds.most_array_bytes(limits, MAX_SENT_PER_PACKET * grid.count, self.ledger.window)
        assert array_bytes <= most, "larger arrays are kept than the limits allow for"
        known = {thing for thing in bounds.walk(cloud) if isinstance(thing, tuple) and thing in self.cloud.came}
        assert known <= self.cloud.paid.keys(), "state is kept for an address that has sent nothing authentic"


def check_books(here: Reassembly) -> None:
    """What is written of a tensor agrees with itself."""
    known = here.base >= 0
    assert here.received == int(here.present.sum()) == int(here.have.sum()), "a tensor's books disagree"
    assert (here.have[known] > 0).all(), "a group is known of which nothing has arrived"
    assert not here.have[~known].any() and (here.have <= here.n).all(), "a group has datagrams that there are not"
    assert int(here.n.sum()) <= here.sent, "groups have more datagrams than were sent"


def check_decoded(decoded: DecodedTensor, arrived: Reassembly, swarm: Swarm) -> None:
    """Whatever was sent, by whomever: a back-end can take the features, and the counts are possible."""
    grid, places = swarm.grid, decoded.found.places
    assert decoded.tensor.shape == swarm.shape and np.isfinite(decoded.tensor).all(), "features that no back-end takes"
    assert len(np.unique(places)) == len(places) and (places < grid.count).all(), "packets are there twice, or nowhere"
    gaps = np.setdiff1d(np.arange(grid.count), places)
    assert (grid.split(decoded.tensor)[gaps] == swarm.fill).all(), "a gap is not filled"
    assert decoded.recovered == int(decoded.found.recovered.sum()) <= len(places)
    assert 0 <= decoded.missing == max(arrived.kept - len(places), 0), "missing packets are miscounted"
    assert decoded.conflicting >= 0
