"""Warnings about link and cloud, each said once, with the numbers and the options that help, until it is over."""

from __future__ import annotations

import math
from collections.abc import Callable

from gradfec_common.protect import AutoProtection
from gradfec_edge.advice import protection_for, smaller_frames
from gradfec_edge.coding import Coding
from gradfec_edge.metrics import CONGESTION, PARTIAL, SLOW_CLOUD, CameraMetrics
from gradfec_edge.seen import WINDOW_S, Window, seen
from gradfec_edge.slow_link import Congestion, LeftOut, congestion, left_out
from gradfec_edge.story import Story
from gradfec_host.logs import Log
from gradfec_host.recent import percent

MOSTLY = 0.5  # of the answers are partial
OVER_AFTER_S = 10.0  # without the reason for a warning, it is over
FEWEST_FPS = 0.1  # a lower --fps is no advice
AT_MOST = 0.99  # of --max-rate: then it is what limits the budget


class Warnings:
    """Judges the last ten seconds whenever a frame has ended."""

    def __init__(
        self,
        coding: Coding,
        wanted_interval_s: Callable[[], float | None],
        rate_mbit_s: float | None,
        max_rate_mbit_s: float | None,
        log: Log,
        metrics: CameraMetrics,
    ) -> None:
        """Begin without warnings. `wanted_interval_s` returns the time between two frames that the user asked for."""
        self._coding, self._wanted_interval_s = coding, wanted_interval_s
        self._rate_mbit_s, self._max_rate_mbit_s = rate_mbit_s, max_rate_mbit_s
        self._adapts = isinstance(coding.policy, AutoProtection)
        self._log, self._metrics = log, metrics
        self._window = Window()
        self._said: dict[str, str] = {}  # by the event's name
        self._held_at: dict[str, float] = {}  # when there was last a reason for it

    @property
    def texts(self) -> tuple[str, ...]:
        """The warnings that hold now, a line each."""
        return tuple(self._said.values())

    def ended(self, story: Story, now: float) -> None:
        """Judge again: a frame's story is over."""
        frame = seen(story, now)
        if frame is None:
            return
        self._window.add(frame)
        if self._window.full:
            self._judge_rate(now)
            self._judge_answers(now)
            self._judge_cloud(now)

    def _judge_rate(self, now: float) -> None:
        interval_s = self._wanted_interval_s()
        found = left_out(self._window, interval_s) if self._adapts else congestion(self._window, interval_s)
        if found:
            self._holds(CONGESTION, now, lambda: self._too_slow(found))
            self._end(PARTIAL)  # parity would hide the congestion, and take even more from others on the link
        elif self._is_over(CONGESTION, now):
            self._end(CONGESTION)
            self._log.info("the link is fast enough again", event=f"{CONGESTION}_over")

    def _judge_answers(self, now: float) -> None:
        partial, loss = self._window.partial, self._window.loss
        if partial is not None and partial >= MOSTLY and loss and CONGESTION not in self._said:
            self._holds(PARTIAL, now, lambda: self._unprotected(partial, loss))
        elif self._is_over(PARTIAL, now) and self._window.complete >= MOSTLY:
            self._end(PARTIAL)
            self._log.info("most answers are complete again", event=f"{PARTIAL}_over")

    def _judge_cloud(self, now: float) -> None:
        if self._window.arrived_in_vain >= MOSTLY and CONGESTION not in self._said:
            self._holds(SLOW_CLOUD, now, self._cloud_too_slow)
        elif self._is_over(SLOW_CLOUD, now):
            self._end(SLOW_CLOUD)
            self._log.info("the cloud is fast enough again", event=f"{SLOW_CLOUD}_over")

    def _holds(self, event: str, now: float, text: Callable[[], str]) -> None:
        """There is a reason for a warning: say it, unless it was said and is not over."""
        self._held_at[event] = now
        if event not in self._said:
            self._said = {**self._said, event: text()}  # replaced as a whole: another thread reads it
            self._log.warning(self._said[event], event=event)
            self._metrics.warns(event, holds=True)

    def _is_over(self, event: str, now: float) -> bool:
        return event in self._said and now - self._held_at[event] >= OVER_AFTER_S

    def _end(self, event: str) -> None:
        self._said = {name: said for name, said in self._said.items() if name != event}
        self._metrics.warns(event, holds=False)

    def _too_slow(self, found: Congestion | LeftOut) -> str:
        cures = self._of_auto(found) if isinstance(found, LeftOut) else self._of_others(found)
        return f"{found}: {', or '.join(cures) or 'use a faster link'}"

    def _of_auto(self, found: LeftOut) -> list[str]:
        fewer = [f"lower --fps to {found.carried_fps:.2g}"] if found.carried_fps >= FEWEST_FPS else []
        return [*fewer, self._more_budget(found.budget_kbit_s) or "use a faster link"]

    def _cloud_too_slow(self) -> str:
        fps, sent_fps = _two_digits(self._window.answered_fps), 1 / self._window.interval_s
        cures = [f"lower --fps to {fps:g}"] if fps >= FEWEST_FPS else []
        return (
            f"for {WINDOW_S:.0f} s, most frames have arrived and had no answer in time: the cloud answers {fps:.2g} of "
            f"{sent_fps:.2g} frames a second; {', or '.join([*cures, 'raise --timeout-ms', 'use a faster cloud'])}"
        )

    def _more_budget(self, budget_kbit_s: float) -> str:
        """Return the option that limits the budget, if one does."""
        most_mbit_s = self._max_rate_mbit_s
        limited = most_mbit_s is not None and budget_kbit_s >= AT_MOST * 1000 * most_mbit_s
        return f"raise --max-rate {most_mbit_s:g}" if limited else ""

    def _of_others(self, found: Congestion) -> list[str]:
        cures = []
        if found.carried_fps >= FEWEST_FPS:
            rate = found.even_rate_mbit_s if self._rate_mbit_s is None else None
            fps = _two_digits(found.carried_fps)
            cures.append(f"lower --fps to {fps:g}" + (f" with --rate {rate:.2g}" if rate else ""))
        if smaller := smaller_frames(self._coding):
            cures.append(f"make frames smaller with {' or '.join(smaller)}")
        if self._rate_mbit_s is not None and 1000 * self._rate_mbit_s < found.offered_kbit_s:
            cures.append(f"raise --rate {self._rate_mbit_s:g}")
        return cures

    def _unprotected(self, partial: float, loss: float) -> str:
        policy, budget_kbit_s = self._coding.policy, self._window.median(lambda frame: frame.budget_kbit_s)
        what = (
            f"for {WINDOW_S:.0f} s, {100 * partial:.0f} % of the answers have been partial: the link loses "
            f"{percent(loss)} of the datagrams, more than"
        )
        if budget_kbit_s is not None:
            cures = filter(None, ["fix the link", self._more_budget(budget_kbit_s)])
            return f"{what} the parity in the budget of {budget_kbit_s:.0f} kbit/s repairs: {', or '.join(cures)}"
        what = f"{what} --protect {policy.name} repairs"
        if self._coding.can_adapt:
            return f"{what}; --protect auto adapts to that"
        cure = protection_for(loss, policy)
        said = f"{what}; {cure} would" if cure else f"{what}, and more than any FEC_A_B would: fix the link"
        return f"{said}. {self._perhaps_slow(loss)}" if loss >= MOSTLY else said

    def _perhaps_slow(self, loss: float) -> str:
        """Say what to do if the link is slow and not bad: the end of a frame cannot tell if most of it is lost."""
        sent_kbit_s = 8 * self._window.frame_bytes / 1000 / self._window.interval_s
        smaller = " or ".join(smaller_frames(self._coding)) or "a lower --fps"
        return (
            f"{sent_kbit_s:.0f} kbit/s are sent and {(1 - loss) * sent_kbit_s:.0f} arrive: if the link carries no more "
            f"than that, send less, with {smaller}"
        )


def _two_digits(at_least_0: float) -> float:
    """Round down to two digits, so that there is as much to spare as was calculated."""
    if not at_least_0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(at_least_0)) - 1)
    return float(f"{math.floor(at_least_0 / unit + 1e-9) * unit:.2g}")
