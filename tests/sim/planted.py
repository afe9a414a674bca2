"""Bugs that are put into the cores on purpose: a simulation that does not catch them would not catch others either."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from gradfec_common import reassembly, wire
from gradfec_common.codes import zfec_code
from gradfec_common.reassembly import Reassembly
from gradfec_common.session.answers import Answers
from gradfec_common.session.cloud import CloudSessions
from gradfec_common.session.edge import EdgeSession
from gradfec_common.session.records import Session
from gradfec_common.session.tensors import Tensors
from gradfec_common.session.timers import Timers


class Planted(NamedTuple):
    """A bug: what is wrong, how to plant it (None: it comes with authentication), and how many seeds may miss it."""

    what: str
    plant: Callable[[], Any] | None
    within: int  # seeds, of which one at least must catch it


def instead(owner: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], Any]:
    """Plant what `make` makes of the original in its place."""
    return lambda: mock.patch.object(owner, name, make(getattr(owner, name)))


def _without(owner: Any, **limits: int) -> Callable[[], Any]:
    """Let a part of the cloud work with other limits than it says it has."""

    def make(original: Any) -> Any:
        def init(self: Any, *arguments: Any) -> None:
            original(self, *arguments)
            self._limits = dataclasses.replace(self._limits, **limits)

        return init

    return instead(owner, "__init__", make)


@contextmanager
def _forgetful_window() -> Iterator[None]:
    """A tensor's number is forgotten as soon as the tensor is finished."""
    original = Tensors._drop

    def drop(self: Tensors, session: Session, number: int, fate: str) -> None:
        original(self, session, number, fate)
        session.finished.discard(number)

    with mock.patch.object(Tensors, "_drop", drop):
        yield


def _shifted_places(original: Any) -> Any:
    """What is recovered lands one place further on."""

    def decode(self: Any, symbols: Any, indices: Any, k: int, n: int) -> Any:
        data = original(self, symbols, indices, k, n).copy()
        lost = np.setdiff1d(np.arange(k), indices)
        data[lost, wire.PLACE_BYTES - 1] += 1
        return data

    return decode


def _one_bit_off(original: Any) -> Any:
    """What is recovered has a wrong bit."""

    def decode(self: Any, symbols: Any, indices: Any, k: int, n: int) -> Any:
        data = original(self, symbols, indices, k, n).copy()
        data[np.setdiff1d(np.arange(k), indices), -1] ^= 1
        return data

    return decode


def _anothers_symbols(original: Any) -> Any:
    """A block is decoded with the symbols of the one before it."""

    def decode(arrived: Reassembly, *rest: Any) -> Any:
        if arrived.blocks > 1:
            arrived.base = np.where(arrived.base > 0, arrived.base - 1, arrived.base)
        return original(arrived, *rest)

    return decode


def _always_first(original: Any) -> Any:
    """Of what comes twice in a batch, both are the first."""
    return lambda values, below: np.ones(len(values), bool)


def _repeated_position_is_new(original: Any) -> Any:
    """What has come before is forgotten when the next batch comes."""

    def add(self: Reassembly, headers: Any, symbols: Any, **known: Any) -> Any:
        present, arrived = self.present.copy(), self.arrived.copy()
        self.present[:] = self.arrived[:] = False
        drops = original(self, headers, symbols, **known)
        self.present |= present
        self.arrived |= arrived
        return drops

    return add


def _answers_twice(original: Any) -> Any:
    """A result that comes again is told again."""

    def take(self: EdgeSession, message: Any, now: float) -> Any:
        waiting = self._awaiting.get(message.tensor)
        if waiting is not None and isinstance(message, wire.Result):
            waiting.result = None
        return original(self, message, now)

    return take


def _answers_the_newest(original: Any) -> Any:
    """An answer goes to the newest of the session's tensors."""

    def answer(self: Tensors, decided: Any, result: Any, now: float) -> None:
        session = self._sessions.get(decided.session)
        if session is not None and session.tensors:
            newest = max(session.tensors)
            if session.tensors[newest].decided:
                decided = dataclasses.replace(decided, tensor=newest)
                result = dataclasses.replace(result, tensor=newest)
        original(self, decided, result, now)

    return answer


def _never_tidied(original: Any) -> Any:
    """The places of timers that are called off are kept until their time."""
    return lambda self, ticket: self._actions.pop(ticket, None) and None


def _loses_timers(original: Any) -> Any:
    """Every tenth timer is lost."""

    def at(self: Timers, when: float, action: Any) -> int:
        ticket: int = original(self, when, action)
        if ticket % 10 == 9:
            self.call_off(ticket)
        return ticket

    return at


def _never_again(original: Any) -> Any:
    """An edge that has lost the cloud asks for it once, and no more."""

    def say_hello(self: EdgeSession, now: float) -> None:
        original(self, now)
        if not self.connected and self.session:
            self._hello_at = now + 1e6

    return say_hello


def _never_closes(original: Any) -> Any:
    """A tensor has no deadline from its first datagram on."""

    def close_at(self: Tensors, session: Any, number: int, when: float) -> None:
        if session.tensors[number].arrived.received:
            original(self, session, number, when)

    return close_at


def _takes_any_address(original: Any) -> Any:
    """A control message is taken from whoever knows the session's number."""

    def take(self: CloudSessions, batch: Any, row: int, now: float) -> Any:
        session = self._sessions.get(int.from_bytes(batch.datagram(row)[4:8].tobytes(), "big"))
        if session is not None and batch.buffer[row, 2] != wire.Kind.HELLO:
            batch = batch._replace(peers=[session.peer] * len(batch.peers))
        return original(self, batch, row, now)

    return take


def _one_fate_too_few(original: Any) -> Any:
    """Of a batch's datagrams for an unknown session, one is counted."""

    def take(self: CloudSessions, batch: Any, rows: Any, headers: Any, now: float) -> Any:
        fates = original(self, batch, rows, headers, now)
        fates["unknown_session"] = min(fates["unknown_session"], 1)
        return fates

    return take


def _overwrites(original: Any) -> Any:
    """Of datagrams too short in two ways, one way is forgotten."""

    def open_batch(batch: Any) -> Any:
        opened = original(batch)
        rows = opened.drops.get(wire.Drop.TOO_SHORT, np.empty(0, np.intp))
        symbols = rows[batch.lengths[rows] >= 12]
        if len(symbols):
            opened.drops[wire.Drop.TOO_SHORT] = symbols
        return opened

    return open_batch


PLANTED = {
    # a bound that is missing
    "tensors_per_session": Planted(
        "tensors are collected without bound", _without(Tensors, tensors_per_session=10**6), 50
    ),
    "answers_per_session": Planted("answers are kept without bound", _without(Answers, answers_per_session=10**6), 50),
    "reassembly_bytes": Planted("symbols are held without bound", _without(Tensors, reassembly_bytes=2**62), 50),
    "pending_tensors": Planted("the back-end is asked without bound", _without(Tensors, pending_tensors=10**6), 50),
    "finished": Planted("finished tensors begin again", _forgetful_window, 20),
    "timers": Planted("timers without bound", instead(Timers, "call_off", _never_tidied), 50),
    # the wrong packet
    "recovered place": Planted(
        "a recovered packet lands elsewhere", instead(zfec_code.ZfecCode, "decode", _shifted_places), 30
    ),
    "recovered bit": Planted("a recovered packet is wrong", instead(zfec_code.ZfecCode, "decode", _one_bit_off), 30),
    "another block": Planted(
        "a block is decoded with another's symbols", instead(reassembly, "decode_tensor", _anothers_symbols), 10
    ),
    # the same datagram twice
    "counts twice": Planted(
        "a symbol twice in a batch counts twice", instead(reassembly, "is_first", _always_first), 20
    ),
    "forgets duplicates": Planted(
        "a symbol of an earlier batch counts again", instead(Reassembly, "add", _repeated_position_is_new), 50
    ),
    # the answer
    "answers twice": Planted(
        "a repeated answer is told again", instead(EdgeSession, "_take_answer", _answers_twice), 50
    ),
    "another's answer": Planted(
        "an answer goes to another tensor", instead(Tensors, "answer", _answers_the_newest), 20
    ),
    # a timer that is lost
    "false timers": Planted(
        "what is called off happens", instead(Timers, "call_off", lambda original: lambda self, ticket: None), 5
    ),
    "lost timers": Planted("every tenth timer is lost", instead(Timers, "at", _loses_timers), 20),
    "silent edge": Planted("an edge asks once, then never again", instead(EdgeSession, "_say_hello", _never_again), 20),
    "no deadline": Planted("a tensor has no deadline", instead(Tensors, "_close_at", _never_closes), 20),
    # the books
    "lost fate": Planted("a datagram has no fate", instead(CloudSessions, "_take_tensor", _one_fate_too_few), 20),
    "any address": Planted(
        "an address is not checked", instead(CloudSessions, "_take_control", _takes_any_address), 50
    ),
    # what simulations have found
    "two ways too short": Planted("of two fates of a name, one is lost", instead(wire, "open_batch", _overwrites), 50),
    # to be planted when there are keys: see nodes.AUTHENTICATED
    "replay window": Planted("the replay window is off by one", None, 50),
    "unauthenticated reply": Planted("a stranger gets an answer", None, 50),
}
