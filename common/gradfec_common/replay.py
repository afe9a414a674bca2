"""The replay window: which datagrams of one direction have arrived already (RFC 4303, section 3.4.3)."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

REPLAY_WINDOW = 32_768  # datagrams: 79 tensors of 410, more than any link reorders; 32 KiB of memory

Counters = npt.NDArray[np.int64]
Verdicts = npt.NDArray[np.uint8]


class Verdict(IntEnum):
    """The outcome of opening a sealed datagram."""

    OK = 0
    REPLAYED = 1  # its counter has arrived before
    TOO_OLD = 2  # its counter lies before the window, so it may or may not have arrived before
    FORGED = 3  # its tag is wrong, or its counter belongs to a key that is out of reach


class ReplayWindow:
    """Which of the last `size` counters have arrived."""

    def __init__(self, size: int = REPLAY_WINDOW) -> None:
        """Start before counter 0."""
        self.size = size
        self.newest = -1
        self._seen = np.zeros(size, bool)  # a ring: counter c in place c % size

    def judge(self, counters: Counters) -> Verdicts:
        """Return OK, REPLAYED or TOO_OLD for each of (m,) counters, compared with what was taken in so far."""
        verdicts = np.zeros(len(counters), np.uint8)
        verdicts[self._seen[counters % self.size] & (counters <= self.newest)] = Verdict.REPLAYED
        verdicts[counters <= self.newest - self.size] = Verdict.TOO_OLD
        return verdicts

    def judge_one(self, counter: int) -> Verdict:
        """Return what `judge` would for one counter."""
        if counter <= self.newest - self.size:
            return Verdict.TOO_OLD
        return Verdict.REPLAYED if counter <= self.newest and self._seen[counter % self.size] else Verdict.OK

    def take_in(self, counters: Counters) -> Verdicts:
        """Take in authentic datagrams as if one after the other: (m,) counters that `judge` finds OK, as they came.

        Return what each was when its turn came: the second of a counter is REPLAYED, one that the others moved the
        window past is TOO_OLD.
        """
        verdicts = np.full(len(counters), Verdict.REPLAYED, np.uint8)
        verdicts[np.unique(counters, return_index=True)[1]] = Verdict.OK
        newest_before = np.maximum.accumulate(np.concatenate(([self.newest], counters)))[:-1]
        verdicts[counters <= newest_before - self.size] = Verdict.TOO_OLD
        self._move_to(max(counters.tolist(), default=self.newest))
        taken = counters[verdicts == Verdict.OK]
        self._seen[taken[taken > self.newest - self.size] % self.size] = True
        return verdicts

    def take_in_one(self, counter: int) -> None:
        """Take in one authentic datagram that `judge_one` finds OK."""
        self._move_to(counter)
        self._seen[counter % self.size] = True

    def _move_to(self, newest: int) -> None:
        """Make `newest` the last counter of the window, if it is not before it already."""
        if newest > self.newest:
            entered = np.arange(max(self.newest + 1, newest - self.size + 1), newest + 1)
            self._seen[entered % self.size] = False
            self.newest = newest
