"""Bugs that are put into the cores on purpose: a simulation that misses them would miss others, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from gradfec_cloud.workers.ray.dispatch import Dispatcher
from gradfec_common import decode, reassembly, wire
from gradfec_common.codes import zfec_code
from gradfec_common.networks import RESNET50
from gradfec_common.reassembly import Reassembly
from gradfec_common.replay import ReplayWindow, Verdict
from gradfec_common.seal import Epoch
from gradfec_common.session import greeter, tensors
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.contact import Contact
from gradfec_common.session.greeter import Greeter
from gradfec_common.session.handshake import AuthenticHello
from gradfec_common.session.in_flight import InFlight
from gradfec_common.session.repeater import Repeater
from gradfec_common.session.sessions import Session
from gradfec_common.session.states import AwaitedState, EdgeState, TensorState
from gradfec_common.session.tensors import Tensors
from gradfec_common.session.timers import Timers
from gradfec_common.session.window import NumberWindow
from gradfec_common.symbols import LONG, Unpacked
from gradfec_common.transmit import EncodedTensor
from gradfec_common.wire.symbol import FORM_BITS, FORM_BYTE, read_headers

from . import ledger


class Planted(NamedTuple):
    """A bug: what is wrong, how to plant it, and how many seeds it takes at most to catch it."""

    what: str
    plant: Callable[[], Any]
    within: int


def instead(owner: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], Any]:
    """Replace an attribute with what `make` makes of the original."""
    return lambda: mock.patch.object(owner, name, make(getattr(owner, name)))


def _without(owner: Any, **limits: int) -> Callable[[], Any]:
    """Give a part of the cloud other limits than the cloud claims to have."""

    def make(original: Any) -> Any:
        def init(self: Any, *arguments: Any) -> None:
            original(self, *arguments)
            self._limits = dataclasses.replace(self._limits, **limits)

        return init

    return instead(owner, "__init__", make)


def _miscounts(original: Any) -> Any:
    def asked_for(self: Any, number: int, until: int) -> Any:
        bodies = original(self, number, until)
        if bodies is not None:
            self._tensors[number].sent -= 1
        return bodies

    return asked_for


def _sends_too_early(original: Any) -> Any:
    def asked_for(self: Any, number: int, until: int) -> Any:
        tensor = self._tensors.get(number)
        if tensor is not None:
            tensor.sent = max(tensor.sent, tensor.unasked)
        return original(self, number, until)

    return asked_for


def _forgetful(original: Any) -> Any:
    """A tensor's number is forgotten as soon as the tensor is finished."""
    return lambda self, number: None


def _recovered(change: Callable[[Any], None]) -> Callable[[Any], Any]:
    """What a code gives back is changed: `change` gets the first packet, from its place on, of each such symbol."""

    def make(original: Any) -> Any:
        def decode(self: Any, symbols: Any, indices: Any, k: int, n: int) -> Any:
            data = original(self, symbols, indices, k, n).copy()
            for row in np.setdiff1d(np.arange(k), indices).tolist():
                size, start = int(data[row, 0]), 1 if data[row, 0] < LONG else 2
                if size:
                    change(data[row, start:])
            return data

        return decode

    return make


def _shift_place(packet: Any) -> None:
    """A recovered packet lands one place further on."""
    packet[1] += 1


def _flip_bit(packet: Any) -> None:
    """A recovered packet has a wrong bit."""
    packet[2] ^= 1


def _anothers_symbols(original: Any) -> Any:
    """A group is decoded with datagrams of the one before it."""

    def jobs(arrived: Reassembly) -> Any:
        if arrived.groups > 1:
            arrived.base = np.where(arrived.base > 0, arrived.base - 1, arrived.base)
        return original(arrived)

    return jobs


def _one_k_too_small(original: Any) -> Any:
    """A stripe with parity is decoded as if it had one data symbol fewer."""

    def jobs(arrived: Reassembly) -> Any:
        return [job._replace(k=job.k - 1) if 1 < job.k < job.n else job for job in original(arrived)]

    return jobs


def _anothers_columns(original: Any) -> Any:
    """Each stripe of a group is decoded with the bytes of the one that begins it."""

    def jobs(arrived: Reassembly) -> Any:
        return [
            job._replace(columns=slice(0, job.columns.stop - job.columns.start), k=job.k) for job in original(arrived)
        ]

    return jobs


def _swapped_places(original: Any) -> Any:
    """The first two packets of a symbol change their places."""

    def unpack(symbols: Any, most: int) -> Any:
        packets, symbol = original(symbols, most)
        places = packets.places.copy()
        for one in np.unique(symbol):
            both = np.flatnonzero(symbol == one)[:2]
            places[both] = places[both][::-1]
        return Unpacked(packets._replace(places=places), symbol)

    return unpack


def _believes_kept(original: Any) -> Any:
    """What is missing is counted as if no more could be there than the header says was kept."""

    def decode_tensor(arrived: Reassembly, *rest: Any) -> Any:
        decoded = original(arrived, *rest)
        return dataclasses.replace(decoded, missing=arrived.kept - len(decoded.found.places))

    return decode_tensor


def _complete_too_early(original: Any) -> Any:
    """A group is complete when its first stripe is whole."""

    def complete(self: Reassembly) -> bool:
        return bool((self.base >= 0).all() and (self.have >= self.k[:, 0]).all())

    return property(complete)


def _learns_from_anybody(original: Any) -> Any:
    """A datagram whose position is taken says what its group is."""

    def learn(self: Reassembly, bodies: Any) -> Any:
        arrived, self.arrived = self.arrived, np.zeros_like(self.arrived)
        teachers = original(self, bodies)
        self.arrived = arrived
        return teachers

    return learn


def _counts_datagrams(original: Any) -> Any:
    """Of what a tensor will hold, its datagrams are counted, not their bytes."""
    return staticmethod(lambda body: int(read_headers(np.frombuffer(body, np.uint8)[np.newaxis])["sent"][0]))


def _always_first(original: Any) -> Any:
    """A value that comes twice in a batch counts as the first both times."""
    return lambda values, below: np.ones(len(values), bool)


def _repeated_position_is_new(original: Any) -> Any:
    """Each batch makes the tensor forget what came before."""

    def add(self: Reassembly, bodies: Any) -> Any:
        present, arrived = self.present.copy(), self.arrived.copy()
        self.present[:] = self.arrived[:] = False
        drops = original(self, bodies)
        self.present |= present
        self.arrived |= arrived
        return drops

    return add


def _answers_twice(original: Any) -> Any:
    """A repeated result is told again."""

    def receive(self: InFlight, result: Any, *rest: Any) -> Any:
        tensor = self._tensors.get(result.tensor)
        if tensor is not None:
            tensor.state = AwaitedState.UNANSWERED
        return original(self, result, *rest)

    return receive


def _answers_the_newest(original: Any) -> Any:
    """An answer goes to the newest of the session's tensors."""

    def answer(self: Tensors, decided: Any, result: Any, now: float) -> Any:
        mine = self._sessions.get(decided.session)
        if mine is not None and mine.tensors:
            newest = max(mine.tensors)
            if mine.tensors[newest].state in (TensorState.DECIDED, TensorState.CLOSED):
                decided = dataclasses.replace(decided, tensor=newest)
                result = dataclasses.replace(result, tensor=newest)
        return original(self, decided, result, now)

    return answer


def _first_form(original: Any) -> Any:
    """Every tensor is taken for one of the first form."""

    def of_one_form(tensor: int, bodies: Any, forms: Any) -> Any:
        (form, again), drops, good = original(tensor, bodies, forms)
        return (form and forms[0], again), drops, good

    return of_one_form


def _one_further_back(original: Any) -> Any:
    """The cloud takes the tensor before the first one for the first one."""

    def of_one_form(tensor: int, bodies: Any, forms: Any) -> Any:
        (form, again), drops, good = original(tensor, bodies, forms)
        return (form, again and again - 1), drops, good

    return of_one_form


def _never_again_a_first(original: Any) -> Any:
    """A tensor whose content was a second look once stays one."""

    def bodies(self: EncodedTensor, tensor: int, again: int = 0) -> Any:
        before = int(self.unnumbered[0, FORM_BYTE]) >> FORM_BITS
        return original(self, tensor, again or before)

    return bodies


def _never_tidied(original: Any) -> Any:
    """Timers that are called off keep their places until their time."""
    return lambda self, ticket: self._things.pop(ticket, None) and None


def _loses_timers(original: Any) -> Any:
    """Every tenth timer is lost."""

    def add(self: Timers[Any], when: float, thing: Any) -> int:
        ticket: int = original(self, when, thing)
        if ticket % 10 == 9:
            self.call_off(ticket)
        return ticket

    return add


def _never_again(original: Any) -> Any:
    """An edge that has lost the cloud asks once, and then never again."""

    def ask(self: Contact, now: float) -> Any:
        due = original(self, now)
        if self.state in (EdgeState.LOST, EdgeState.OVER) and any(due):
            self._ask_at = now + 1e6
        return due

    return ask


def _never_closes(original: Any) -> Any:
    """A tensor gets no deadline from its first datagram."""

    def close_at(self: Tensors, mine: Any, number: int, when: float) -> None:
        if mine.tensors[number].arrived.received:
            original(self, mine, number, when)

    return close_at


def _one_fate_too_few(original: Any) -> Any:
    """Only one of a batch's datagrams for an unknown session is counted."""

    def take(self: CloudSessions, *batch: Any) -> None:
        before = self.counts["unknown_session"]
        original(self, *batch)
        self.counts["unknown_session"] = min(self.counts["unknown_session"], before + 1)

    return take


def _overwrites(original: Any) -> Any:
    """A datagram can be too short in two ways; one of them is not counted."""

    def sort_batch(batch: Any) -> Any:
        found = original(batch)
        rows = found.drops.get(wire.Drop.TOO_SHORT, np.empty(0, np.intp))
        headed = rows[batch.lengths[rows] >= wire.OUTER_HEADER_BYTES]
        if len(headed):
            found.drops[wire.Drop.TOO_SHORT] = headed
        return found

    return sort_batch


# --- keys ---


def _forgets_newest(original: Any) -> Any:
    """The newest datagram is not remembered until the next one is."""

    def judge_one(self: ReplayWindow, counter: int) -> Verdict:
        return Verdict.OK if counter == self.newest else original(self, counter)

    return judge_one


def _one_too_narrow(original: Any) -> Any:
    """The last place of the window counts as too old."""

    def judge(self: ReplayWindow, counters: Any) -> Any:
        verdicts = original(self, counters)
        verdicts[counters == self.newest - self.size + 1] = Verdict.TOO_OLD
        return verdicts

    return judge


def _first_of_a_batch(original: Any) -> Any:
    """A counter that comes twice in a batch is accepted twice."""

    def take_in(self: ReplayWindow, counters: Any) -> Any:
        verdicts = original(self, counters)
        verdicts[verdicts == Verdict.REPLAYED] = Verdict.OK
        return verdicts

    return take_in


def _says_goodbye_to_strangers(original: Any) -> Any:
    """The cloud answers datagrams for sessions that do not exist."""

    def take(self: CloudSessions, batch: Any, rows: Any, headers: Any, now: float) -> None:
        if int(headers["session"][0]) not in self._sessions:
            bye = bytes([wire.MAGIC, wire.VERSION, wire.Kind.MESSAGE, 0, *bytes(28), *wire.message_body(wire.Bye())])
            self._outbox.welcome(bye, batch.peer(int(rows[0])))
        original(self, batch, rows, headers, now)

    return take


def _answers_replays(original: Any) -> Any:
    """A remembered hello is answered to any address."""

    def read(self: Greeter, datagram: bytes, peer: Any, now: float) -> Any:
        read, bites = original(self, datagram, peer, now)
        known = self._greeted.get(datagram[16:48])
        return (known.welcome if read is wire.Drop.REPLAYED and known and known.welcome else read), bites

    return read


def _answers_forgeries(original: Any) -> Any:
    """A hello with a wrong tag passes as authentic."""

    def read(datagram: bytes, keys: Any) -> Any:
        hello = original(datagram, keys)
        if hello is not wire.Drop.FORGED:
            return hello
        return AuthenticHello(keys[datagram[8:16]], wire.message_body(ANYBODY), datagram)

    return read


ANYBODY = wire.Hello(1, RESNET50.digest, 900, 7, "anybody")


def _costs_nothing(original: Any) -> Any:
    """What the cloud says to an edge does not use up its credit."""

    def pay(self: Session, cost: int) -> bool:
        return self.credit >= cost

    return pay


def _keeps_credit(original: Any) -> Any:
    """An edge that moves keeps its credit."""

    def hear(self: Session, *heard: Any) -> Any:
        peer, credit = self.peer, self.credit
        news = original(self, *heard)
        if self.peer != peer:
            self.credit += credit
        return news

    return hear


def _moves_back(original: Any) -> Any:
    """An old datagram moves its edge to where it came from."""

    def hear(self: Session, batch: Any, rows: Any, *heard: Any) -> Any:
        news = original(self, batch, rows, *heard)
        self.peer = batch.peer(int(rows[-1]))
        return news

    return hear


@contextmanager
def _counts_anew() -> Iterator[None]:
    """Each epoch keeps the key of the one before, and its counters and nonces begin anew."""
    nonce, nonces = Epoch.nonce, Epoch.nonces

    def next_epoch(self: Epoch) -> Epoch:
        following = copy(self)
        following.number = self.number + 1
        return following

    def within(self: Epoch, counter: Any) -> Any:
        return counter % ledger.epoch_datagrams()

    with (
        mock.patch.object(Epoch, "next", next_epoch),
        mock.patch.object(Epoch, "nonce", lambda self, counter: nonce(self, within(self, counter))),
        mock.patch.object(Epoch, "nonces", lambda self, counters: nonces(self, within(self, counters))),
    ):
        yield


def _charges_forgeries(original: Any) -> Any:
    """Forged datagrams use up a session's allowance."""

    def take(self: CloudSessions, batch: Any, rows: Any, headers: Any, now: float) -> None:
        session = self._sessions.get(int(headers["session"][0]))
        if session is not None:
            session.allowance.spend(len(rows))
        original(self, batch, rows, headers, now)

    return take


def _lets_stay(original: Any) -> Any:
    """A session goes on although its key is removed."""

    def change_keys(self: CloudSessions, keys: Any) -> None:
        self._reception.change_keys(keys)

    return change_keys


def _releases_nothing(original: Any) -> Any:
    def lose(self: Dispatcher, *arguments: Any) -> None:
        original(self, *arguments)
        self._waiting.clear()

    return lose


PLANTED = {
    # a bound that is missing
    "tensors_per_session": Planted(
        "tensors are collected without bound", _without(Tensors, tensors_per_session=10**6), 50
    ),
    "answers_per_session": Planted("answers are kept without bound", _without(Repeater, answers_per_session=10**6), 50),
    "reassembly_bytes": Planted("symbols are held without bound", _without(Tensors, reassembly_bytes=2**62), 50),
    "bytes_for": Planted("datagrams count, not bytes", instead(Reassembly, "bytes_for", _counts_datagrams), 50),
    "pending_tensors": Planted("the back-end is asked without bound", _without(Tensors, pending_tensors=10**6), 50),
    "finished": Planted("finished tensors begin again", instead(NumberWindow, "finish", _forgetful), 20),
    "timers": Planted("timers without bound", instead(Timers, "call_off", _never_tidied), 50),
    # the wrong packet
    "recovered place": Planted(
        "a recovered packet lands elsewhere",
        instead(zfec_code.ZfecCode, "decode", _recovered(_shift_place)),
        30,
    ),
    "recovered bit": Planted(
        "a recovered packet is wrong", instead(zfec_code.ZfecCode, "decode", _recovered(_flip_bit)), 30
    ),
    "another group": Planted(
        "a group is decoded with another's symbols", instead(decode, "_jobs", _anothers_symbols), 10
    ),
    "another stripe": Planted(
        "a stripe is decoded with another's bytes", instead(decode, "_jobs", _anothers_columns), 20
    ),
    "wrong k": Planted("a stripe is decoded with the wrong k", instead(decode, "_jobs", _one_k_too_small), 10),
    "wrong place": Planted("two packets change their places", instead(decode, "unpack", _swapped_places), 10),
    "kept": Planted("kept is believed", instead(decode, "decode_tensor", _believes_kept), 50),
    "first stripe": Planted(
        "a group is complete with its first stripe", instead(Reassembly, "complete", _complete_too_early), 20
    ),
    "lying teacher": Planted(
        "a group is learnt from a liar", instead(Reassembly, "_learn_groups", _learns_from_anybody), 50
    ),
    # the same datagram twice
    "counts twice": Planted(
        "a symbol twice in a batch counts twice", instead(reassembly, "is_first", _always_first), 20
    ),
    "forgets duplicates": Planted(
        "a symbol of an earlier batch counts again", instead(Reassembly, "add", _repeated_position_is_new), 50
    ),
    "first form": Planted("a tensor's form is not looked at", instead(tensors, "_of_one_form", _first_form), 10),
    # second looks
    "another frame": Planted(
        "a second look is said to be of another frame", instead(tensors, "_of_one_form", _one_further_back), 10
    ),
    "still a look": Planted(
        "a tensor says what an earlier one has said", instead(EncodedTensor, "bodies", _never_again_a_first), 10
    ),
    "old session": Planted(
        "a second look is of a tensor of another session",
        instead(InFlight, "begin_session", lambda original: lambda self: self.give_up_all()),
        50,
    ),
    # more, when it is asked for
    "sends twice": Planted("a datagram asked for may be sent again", instead(InFlight, "asked_for", _miscounts), 50),
    "sends too early": Planted(
        "a reserve is sent before what goes unasked", instead(InFlight, "asked_for", _sends_too_early), 50
    ),
    # the answer
    "answers twice": Planted(
        "a repeated answer is told again", instead(InFlight, "receive_result", _answers_twice), 50
    ),
    "another's answer": Planted(
        "an answer goes to another tensor", instead(Tensors, "answer", _answers_the_newest), 20
    ),
    # a timer that is lost
    "false timers": Planted(
        "a timer that was called off fires", instead(Timers, "call_off", lambda original: lambda self, ticket: None), 5
    ),
    "lost timers": Planted("every tenth timer is lost", instead(Timers, "add", _loses_timers), 20),
    "silent edge": Planted("an edge asks once, then never again", instead(Contact, "due", _never_again), 20),
    "no deadline": Planted("a tensor has no deadline", instead(Tensors, "_close_at", _never_closes), 20),
    # workers
    "lost lease": Planted("what a dead worker had is lost", instead(Dispatcher, "_lose", _releases_nothing), 50),
    # the books
    "lost fate": Planted("a datagram has no fate", instead(CloudSessions, "_receive_sealed", _one_fate_too_few), 20),
    # what simulations have found
    "two ways too short": Planted(
        "one of two fates with the same name is lost", instead(wire, "sort_batch", _overwrites), 50
    ),
    # keys
    "takes twice": Planted(
        "the newest datagram is taken again", instead(ReplayWindow, "judge_one", _forgets_newest), 50
    ),
    "too narrow": Planted("the replay window is one too narrow", instead(ReplayWindow, "judge", _one_too_narrow), 50),
    "twice in a batch": Planted(
        "a datagram twice in a batch is taken twice", instead(ReplayWindow, "take_in", _first_of_a_batch), 50
    ),
    "goodbye": Planted(
        "the cloud says goodbye to strangers", instead(CloudSessions, "_receive_sealed", _says_goodbye_to_strangers), 50
    ),
    "replayed hello": Planted("a replayed hello is answered", instead(Greeter, "read", _answers_replays), 50),
    "forged hello": Planted("a forged hello is answered", instead(greeter, "read_hello", _answers_forgeries), 50),
    "amplification": Planted("answers cost nothing", instead(Session, "pay", _costs_nothing), 50),
    "credit moves": Planted("credit moves along with an edge", instead(Session, "hear", _keeps_credit), 50),
    "moves back": Planted("an old datagram moves its session", instead(Session, "hear", _moves_back), 50),
    "nonce": Planted("nonces repeat in each epoch", _counts_anew, 50),
    "used up": Planted(
        "forgeries use up an edge's allowance", instead(CloudSessions, "_receive_sealed", _charges_forgeries), 50
    ),
    "removed key": Planted("a session outlives its key", instead(CloudSessions, "change_keys", _lets_stay), 50),
}
