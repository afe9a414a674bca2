"""The time limit of a concealment, and what takes its place when it has no answer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from gradfec_common.conceal import Concealment, Stepwise
from gradfec_common.conceal.concealment import Floats, Mask
from gradfec_common.conceal.mean import Mean
from gradfec_common.conceal.zero import Zero
from gradfec_common.networks import Cut, full_name
from gradfec_common.packets import PacketGrid
from gradfec_host.concealment_file import learned_for
from gradfec_host.logs import Log

OUT_OF_TIME, NO_ANSWER = "out_of_time", "no_answer"  # why a concealment was given up
WORDS = {OUT_OF_TIME: "takes longer than {limit_ms:g} ms (--fill-ms)", NO_ANSWER: "finds no finite answer"}


class InTime:
    """A concealment that is given up after some time, between two steps, or if it fails: then another fills the gaps.

    One thread at a time may call it, as the decoder does.
    """

    def __init__(
        self,
        conceal: Stepwise,
        instead: Concealment,
        limit_s: float,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Call `say` with the reason, but only the first time that there is one."""
        self.given_up: Counter[str] = Counter()  # tensors, by the reason
        self._conceal, self._instead, self._limit_s = conceal, instead, limit_s
        self._say, self._clock = say, clock

    def __call__(self, tensor: Floats, there: Mask, grid: PacketGrid, step: float = 0.0) -> Floats:
        """See Concealment."""
        if there.all():
            return tensor
        tensor = np.ascontiguousarray(tensor)
        reason = self._fill(tensor, there, grid)
        if reason is None:
            return tensor
        if reason not in self.given_up:
            self._say(WORDS[reason].format(limit_ms=1000 * self._limit_s))
        self.given_up[reason] += 1
        return self._instead(np.nan_to_num(tensor, copy=False), there, grid, step)  # a gap must be finite

    def __getstate__(self) -> dict[str, object]:
        """Return its state for a worker on another machine, where `say` has no listener."""
        return {**self.__dict__, "_say": _in_silence}

    def _fill(self, tensor: Floats, there: Mask, grid: PacketGrid) -> str | None:
        """Fill the gaps; return why they are not filled, if so. An edge may send values that no network makes."""
        end = self._clock() + self._limit_s
        try:
            with np.errstate(all="ignore"):
                for _ in self._conceal.steps(tensor, there, grid):
                    if self._clock() > end:
                        return OUT_OF_TIME
        except np.linalg.LinAlgError:
            return NO_ANSWER
        return None if np.isfinite(tensor).all() else NO_ANSWER


def _in_silence(reason: str) -> None:
    pass


def in_time(concealments: Mapping[Cut, Concealment], limit_s: float, log: Log) -> dict[Cut, Concealment]:
    """Limit the time of those that take long; the channels' means take their place, or zeros if none were learned."""

    def limited(cut: Cut, conceal: Concealment) -> Concealment:
        if not isinstance(conceal, Stepwise):
            return conceal
        learned = learned_for(cut)
        instead, named = (Mean(cut, learned), "mean") if "means" in learned else (Zero(cut, learned), "zero")

        def say(reason: str) -> None:
            line = f"--fill at {full_name(cut)} {reason}: tensors like that get --fill {named}; this is said only once"
            log.warning(line, event="fill_given_up", cut=full_name(cut))

        return InTime(conceal, instead, limit_s, say)

    return {cut: limited(cut, conceal) for cut, conceal in concealments.items()}
