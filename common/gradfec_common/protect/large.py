"""Frames of many datagrams: which share of a frame `auto` sends, and how much parity it adds.

Such a frame is coded as by FEC_A_B: the most important packets, in groups that are alike. But two shares are free: how
much of the frame is sent, and how much of the datagrams is parity. They are chosen together, for the most agreement
less what the bytes should gain or, on a link that cannot carry that, for the most right answers a second. A frame of
one group has a reserve of parity for requests, as smaller frames have.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import ErasureCode
from gradfec_common.protect.link import LinkEstimate, Losses
from gradfec_common.protect.worth import Worth

Floats = npt.NDArray[np.float64]

MOST_RESERVE = 40  # datagrams
MOST_N = 256  # datagrams of a group, up to which its chances are calculated
SHARES = (*np.arange(0.05, 1.0, 0.05).round(2).tolist(), 1.0)  # of the frame's bytes, that are tried
PARITIES = np.arange(0, 60) / 64  # shares of the datagrams that are parity, that are tried
GAIN_A_FRAME = 0.03  # of agreement: what bytes as many as the whole frame's, or the link's in its time, have to gain
GOOD_ENOUGH = 0.85  # of what the best frame is worth: frames that are worth less are left out


class LargeChoice(NamedTuple):
    """The share of a frame's bytes that is sent, and the share of its datagrams that is parity.

    `bytes` are those of all its datagrams, and of those that are asked for on average; `expected` is the agreement.
    """

    kept: float
    parity: float
    bytes: float
    expected: float


def choose_large(
    worth: Worth, code: ErasureCode, link: LinkEstimate, datagrams: float, most: float, datagram_bytes: float
) -> LargeChoice:
    """Choose for a frame that fills `datagrams` of `datagram_bytes`, and may be sent as at most `most` of them.

    `worth` says what a part of the frame is worth.
    """
    shares = np.array(SHARES if worth.kept else SHARES[-1:])[:, np.newaxis]
    sent = np.maximum(datagrams * shares / (1 - PARITIES), 1)  # (shares, parities)
    expected, asked = _outlook(worth, code, link, shares, sent)
    total, frame_bytes = datagram_bytes * (sent + asked), link.frame_bytes
    value = expected - GAIN_A_FRAME * total / max(datagrams * datagram_bytes, frame_bytes or 0.0)
    value = np.where(sent <= most, value, -np.inf)
    if frame_bytes is not None:  # larger frames have to be fewer
        good = expected >= GOOD_ENOUGH * expected.flat[value.argmax()]
        value = np.where(good, np.minimum(frame_bytes / total, 1) * value, -np.inf)
    best = int(value.argmax())
    share, at = divmod(best, len(PARITIES))
    return LargeChoice(
        float(shares[share, 0]), float(PARITIES[at]), float(total.flat[best]), float(expected.flat[best])
    )


def _outlook(
    worth: Worth, code: ErasureCode, link: LinkEstimate, shares: Floats, sent: Floats
) -> tuple[Floats, Floats]:
    """Return the agreement (shares, parities) if each of `shares` of the frame is `sent` as that many datagrams.

    And how many more the cloud asks for, on average.
    """
    most_n = np.array([min(code.group_n(parity), MOST_N) for parity in PARITIES.tolist()])
    groups = np.ceil(sent / most_n)
    n = np.ceil(sent / groups).astype(np.intp)
    k = np.ceil(n * (1 - PARITIES)).astype(np.intp)
    fewer, part = (table[n, k] for table in _fewer(link.losses))
    broken = np.maximum(fewer, 1e-12)  # the chance that fewer arrive than a group needs
    there = part / broken / n  # of a broken group's data
    whole = (1 - broken.clip(0, 1)) ** groups
    broken_groups = np.minimum(broken / np.maximum(1 - whole, 1e-12), 1.0)  # the share of them, if not all are whole
    arrived = 1 - (1 - there) * broken_groups  # of what is sent
    may_ask = (groups == 1) & (n + MOST_RESERVE <= code.max_n) & (link.rounds > 0)
    best, at_first = worth.of(shares), worth.of(shares * arrived**worth.scatter)
    expected = best - (1 - whole) * (1 - may_ask * link.on_request) * (best - at_first)
    return expected, may_ask * (k * fewer - part) / (1 - link.loss)


@lru_cache(4)
def _fewer(losses: tuple[tuple[float, Losses], ...]) -> tuple[Floats, Floats]:
    """Return for n and k the chance that fewer than k of n arrive, and that times how many do (n + 1, n + 1 each)."""
    chances = LinkEstimate(losses).all_arrivals(MOST_N)
    before: Floats = np.zeros((MOST_N + 1, 1))
    counts = np.arange(MOST_N)
    fewer, part = np.cumsum(chances[:, :-1], axis=1), np.cumsum(chances[:, :-1] * counts, axis=1)
    return np.hstack([before, fewer]), np.hstack([before, part])
