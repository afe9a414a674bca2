"""Whether the link carries what the edge sends, or would like to send.

The policy `auto` never sends more than its budget, and leaves frames out instead. It does so if a frame uses more of
the budget than comes in until the next one, and the next one leaves as soon as it may.

With the other policies, the edge only warns the user, and does not slow down. A link that is too slow loses datagrams,
or delays them, because of what is sent. A bad link loses them whatever is sent, and there parity helps. Over the last
ten seconds, three signs tell the two apart:

1. The link delays. Complete frames take as long to arrive as the time from one frame to the next, and longer than they
   took to leave. The queue in front of the slow link never becomes empty.
2. The queue overflows. Each frame starts after a pause (see `pacing`), in which the queue has made room. So the end of
   a frame is lost far more often than its start. A bad link loses both alike.
3. The edge itself is late. A frame takes as long to send as the time from one to the next: --rate is too low, or the
   kernel takes no more.

Signs 1 and 3 need a frame rate that is asked for: of a camera, or --fps. Without one, frames leave as fast as they can.
Two kinds of slow links show none of the signs. One has hardly a queue, and loses the start of a frame like its end. The
other is so slow that no answer comes in time: its frames are timeouts.
"""

from __future__ import annotations

from typing import NamedTuple

from gradfec_edge.seen import Window
from gradfec_host.recent import kilobytes

FEWEST_FRAMES = 8
AS_LONG_AS = 0.95  # of the time between two frames
LONGER_THAN = 1.25  # times as long to arrive as to leave
LONGEST_FRAME_S = 0.4  # to send; by default, the cloud waits 0.5 s for a frame
KEEPS_UP = 0.9  # of the frames are sent
LEAST_GROWTH = 0.1  # the share by which the end of a frame loses more of its datagrams than its start
ERRORS = 8  # standard errors by which that must be above 0: losses in bursts vary a lot


class Congestion(NamedTuple):
    """What is sent, what the link carries of it, and how we know."""

    frame_bytes: float
    fps: float
    carried_kbit_s: float
    sign: str
    overflows: bool  # by sign 2

    @property
    def offered_kbit_s(self) -> float:
        """The rate of all frames that are to be sent."""
        return 8 * self.frame_bytes * self.fps / 1000

    @property
    def carried_fps(self) -> float:
        """The frame rate that fits, with a tenth to spare."""
        return 0.9 * 1000 * self.carried_kbit_s / (8 * self.frame_bytes)

    @property
    def even_rate_mbit_s(self) -> float | None:
        """The --rate that would keep a short queue from overflowing; None if a frame would take too long at it."""
        fits = 8 * self.frame_bytes / 1000 <= LONGEST_FRAME_S * self.carried_kbit_s
        return self.carried_kbit_s / 1000 if self.overflows and fits else None

    def __str__(self) -> str:
        """Say it."""
        return (
            f"the link carries less than is sent: {kilobytes(self.frame_bytes)} a frame at {self.fps:.3g} frames/s are "
            f"{self.offered_kbit_s:.0f} kbit/s, and about {self.carried_kbit_s:.0f} kbit/s arrive ({self.sign})"
        )


class LeftOut(NamedTuple):
    """What the budget is, and what it takes to send every frame that is asked for; rates with all headers."""

    budget_kbit_s: float
    frame_bytes: float  # of UDP payload
    wanted_fps: float
    carried_fps: float

    def __str__(self) -> str:
        """Say it."""
        needed_kbit_s = self.budget_kbit_s * self.wanted_fps / self.carried_fps
        return (
            f"the link carries about {self.budget_kbit_s:.0f} kbit/s, and {kilobytes(self.frame_bytes)} a frame at "
            f"{self.wanted_fps:.3g} frames/s need {needed_kbit_s:.0f} kbit/s, so only about {self.carried_fps:.2g} "
            "frames/s are sent"
        )


def left_out(window: Window, wanted_interval_s: float | None) -> LeftOut | None:
    """Return what the frames of a full window say of the budget; None if it is enough, or no rate is asked for.

    `wanted_interval_s` is the time between two frames of the camera or of --fps; None if there is none.
    """
    if not window.full or wanted_interval_s is None:
        return None
    takes_s = window.median(lambda frame: frame.takes_s)
    budget_kbit_s = window.median(lambda frame: frame.budget_kbit_s)
    if takes_s is None or budget_kbit_s is None or KEEPS_UP * takes_s < wanted_interval_s:
        return None
    if takes_s < KEEPS_UP * window.interval_s:  # the edge box, or the cloud, takes longer
        return None
    return LeftOut(budget_kbit_s, window.frame_bytes, 1 / wanted_interval_s, 1 / takes_s)


def congestion(window: Window, wanted_interval_s: float | None) -> Congestion | None:
    """Return what the frames of a full window say; None if the link carries them, or that cannot be told.

    `wanted_interval_s` is the time between two frames of the camera or of --fps; None if there is none.
    """
    if not window.full or len(window.values(lambda frame: frame.size)) < FEWEST_FRAMES:
        return None
    interval_s, loss = window.interval_s, window.loss or 0.0
    frame_bytes = window.frame_bytes
    sent_fps, wanted_fps = 1 / interval_s, 1 / (wanted_interval_s or interval_s)
    arrives_kbit_s = 8 * frame_bytes / 1000 * sent_fps * (1 - loss)
    if overflow := _overflow(window):
        # A queue that overflows holds no frame up. If far fewer are sent than the camera has, the edge box is slow.
        fps = wanted_fps if sent_fps >= KEEPS_UP * wanted_fps else sent_fps
        return Congestion(frame_bytes, fps, arrives_kbit_s, overflow, overflows=True)
    if wanted_interval_s and (delay := _delay(window, interval_s)):
        return Congestion(frame_bytes, wanted_fps, arrives_kbit_s, delay, overflows=False)
    return None


def _overflow(window: Window) -> str:
    growth = window.growth
    if growth is None or len(window.values(lambda frame: frame.growth)) < FEWEST_FRAMES:
        return ""
    mean, error = growth
    if mean < max(LEAST_GROWTH, ERRORS * error):
        return ""
    return f"the end of each frame loses {100 * mean:.0f} % more than its start"


def _delay(window: Window, interval_s: float) -> str:
    send_s, pass_s = window.median(lambda frame: frame.send_s), window.median(lambda frame: frame.pass_s)
    if send_s is not None and send_s >= AS_LONG_AS * interval_s:
        return f"a frame takes {1000 * send_s:.0f} ms to send, and the next comes after {1000 * interval_s:.0f} ms"
    if pass_s is not None and pass_s >= max(AS_LONG_AS * interval_s, LONGER_THAN * (send_s or 0.0)):
        return f"a frame takes {1000 * pass_s:.0f} ms to arrive, and the next comes after {1000 * interval_s:.0f} ms"
    return ""
