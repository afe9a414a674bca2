"""`auto`: the link and the worth of a frame's bytes decide how fine the frame is, and which parity each class gets.

A frame is one group of n datagrams. Its packets are divided into classes, the most important first, and class s is
whole if k_s of the n datagrams arrive: it costs n / k_s of its bytes. So each class can have one of the points
(n / k, P(at least k of n arrive)), k = n .. 1, or not be sent at all. From nothing, we take the step along the upper
hull of these points, of whichever class, that gains most a byte, and note every state on the way (marginal analysis:
B. Fox, "Discrete optimization via marginal analysis", Management Science 13, 1966; for erasure codes, R. Puri,
K. Ramchandran, "Multiple description source coding using forward error correction codes", Asilomar 1999). The points
are the same for all classes, and the bytes of a less important class are worth less, so k rises as importance falls.

The states of every n are compared for every quality, with what is worth something even if its class is not whole: the
data symbols that arrived. The best one that fits the frame's bytes is taken. A byte that hardly gains anything is not
sent, even over a fast link.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import ErasureCode
from gradfec_common.errors import UsageError
from gradfec_common.protect.fec import in_groups
from gradfec_common.protect.large import GAIN_A_FRAME, GOOD_ENOUGH, MOST_RESERVE, LargeChoice, choose_large
from gradfec_common.protect.link import LinkEstimate
from gradfec_common.protect.nested import PacketClass, packed
from gradfec_common.protect.none import NoProtection
from gradfec_common.protect.plan import Group, Plan, keep_most_important, ranking
from gradfec_common.protect.policy import Room
from gradfec_common.protect.worth import Quality, Worth, hull
from gradfec_common.symbols import entry_sizes
from gradfec_common.wire import MAX_DATAGRAM_BYTES
from gradfec_common.wire.symbol import MAX_SENT_PER_PACKET, STRIPE_BYTES

Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

NAME = "auto"
DATAGRAMS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 19, 24, 31, 40, 50)  # the n that are tried
MORE_DATAGRAMS = (62, 76, 94, 116, 142, 176, 216, 256)  # for a codec that needs every packet
MOST_KS = 16  # that are tried for each n
GAIN_A_KB = 0.002  # of agreement: bytes that gain less are not sent, unless the link carries many
FEWEST_PACKETS = 64  # that a frame has: the fewer, the more room is wasted at the end of each symbol
LARGE = 35  # datagrams: a frame of more is coded in groups, because symbols are not full, and 50 might not do


class States(NamedTuple):
    """Ways to protect a frame, each a row: `n` (t,); `ks` (t, classes), 0 for a class that is not sent.

    `bytes` (t,) are those of the symbols over those of the packets, `stripes` (t,) the different k, `asked` (t,) the
    datagrams that are asked for on average, and `worth` (t,) what is expected, 1 being a whole frame.
    """

    n: Indices
    ks: Indices
    bytes: Floats
    stripes: Indices
    asked: Floats
    worth: Floats


@dataclass(frozen=True)
class Choice:
    """What the policy has decided for frames of a link: a quality, the k of each class in n datagrams.

    `frame_bytes` are those of all its datagrams, on average, `expected` is the agreement with the uncut network, and
    `value` that agreement less what its bytes should gain. Of two codecs, the one of the higher value suits the link.
    """

    quality: Quality
    n: int
    ks: tuple[int, ...]
    frame_bytes: float
    expected: float
    value: float


@dataclass(frozen=True)
class AutoProtection:
    """The most agreement for the bytes that the link carries, and at most `most_sent` datagrams for each packet."""

    worth: Worth
    code: ErasureCode
    name: str = NAME
    most_sent: int = MAX_SENT_PER_PACKET

    def choose(
        self, link: LinkEstimate, room: Room, qualities: tuple[Quality, ...] = (), most_n: int = MORE_DATAGRAMS[-1]
    ) -> Choice:
        """Decide for frames of one of `qualities`, those of the codec by default, in at most `most_n` datagrams."""
        qualities, most_n = qualities or self.worth.qualities, min(most_n, self.code.max_n)
        return _choice(self.worth, qualities, link, room, most_n)

    def value(self, link: LinkEstimate, room: Room, sizes: Indices | None = None) -> float:
        """Return what a frame is worth on a link; of several codecs, the one of the highest value suits it.

        `sizes` (count,) are the bytes of its packets, None for a codec of several qualities.
        """
        if sizes is None:
            return self.choose(link, room).value
        entries = entry_sizes(sizes)
        if entries.sum() > LARGE * room.left():
            choice = self._choose_large(sizes, link, room)
            return _value(choice.expected, choice.bytes, link.frame_bytes)
        whole = Quality(0.0, float(entries.sum()), 1.0)
        return self.choose(link, room, (whole,), self.most_sent * len(sizes)).value

    def plan(self, importance: npt.NDArray[np.float32], sizes: Indices, link: LinkEstimate, room: Room) -> Plan:
        """Plan one group of as many stripes as there are different k; a large frame is planned in several."""
        entries = entry_sizes(sizes)
        qualities, size = self.worth.qualities, float(entries.sum())
        if not qualities and size > LARGE * room.left():
            return self._large(importance, sizes, link, room)
        has_own_size = not (qualities and self.worth.kept)  # every packet is needed
        if has_own_size:
            qualities = (Quality(0.0, size, self._usual_agreement(link, room)),)
        try:
            choice = self.choose(link, room, qualities, self.most_sent * len(sizes))
        except UsageError:
            if not has_own_size:
                raise
            return NoProtection().plan(importance, sizes, link, room)  # it is too large for one group
        ranked = ranking(importance)
        reserve = self._reserve(choice.n, max(choice.ks), link, self.most_sent * len(sizes))
        n, classes = choice.n, _classes(choice.ks, self.worth.classes[0], entries[ranked])
        while (stripes := packed(_joined(classes), n + reserve, ranked, entries[ranked], room, self.code)) is None:
            if not self.worth.kept and classes[-1].k == n:  # a frame without its last packets would be worth nothing
                n += 1
                if n > min(len(ranked), self.code.max_n - reserve):
                    return NoProtection().plan(importance, sizes, link, room)
            classes = _less(classes, n) or room.too_long(int(entries[ranked[0]]))
        dropped = np.sort(ranked[classes[-1].end :])
        return Plan(len(ranked), dropped, (Group(n + reserve, stripes),), reserve, choice.expected)

    def _usual_agreement(self, link: LinkEstimate, room: Room) -> float:
        """Return the agreement of whole frames that are as fine as suits the link."""
        if len(self.worth.qualities) > 1:
            return self.choose(link, room).quality.agreement
        return self.worth.qualities[0].agreement if self.worth.qualities else 1.0

    def _reserve(self, n: int, k: int, link: LinkEstimate, most_n: int) -> int:
        """Return how much parity to have ready for requests for more of a group of n datagrams, k of them data."""
        enough = round(link.rounds * k / (1 - link.loss))
        return max(min(enough, MOST_RESERVE, most_n - n, self.code.max_n - n), 0)

    def _large(self, importance: npt.NDArray[np.float32], sizes: Indices, link: LinkEstimate, room: Room) -> Plan:
        """Plan a frame of more than LARGE datagrams."""
        choice, most = self._choose_large(sizes, link, room), self.most_sent * len(sizes)
        kept, dropped = keep_most_important(importance, 100 * (1 - choice.kept))
        packing = room.packing(sizes[kept], self.code)
        data = len(packing.starts) - 1
        sent = min(math.ceil(data / (1 - choice.parity)), most)
        groups, reserve = in_groups(kept, packing, sent, self.code.group_n(choice.parity), self.code), 0
        if len(groups) == 1 and groups[0].n + MOST_RESERVE <= self.code.max_n:
            reserve = self._reserve(groups[0].n, data, link, most)
            groups = (groups[0]._replace(n=groups[0].n + reserve),)
        if (choice.kept, choice.parity, reserve) == (1.0, 0.0, 0):
            return replace(NoProtection().plan(importance, sizes, link, room), expected=choice.expected)
        return Plan(len(sizes), dropped, groups, reserve, choice.expected)

    def _choose_large(self, sizes: Indices, link: LinkEstimate, room: Room) -> LargeChoice:
        size, most = float(entry_sizes(sizes).sum()), self.most_sent * len(sizes)
        datagrams = max(size / room.left(), len(sizes) / (room.packets_a_symbol or len(sizes)))
        datagram_bytes = MAX_DATAGRAM_BYTES - room.left() + size / datagrams
        return choose_large(self.worth, self.code, link, datagrams, most, datagram_bytes)


@lru_cache(64)
def _choice(
    worth: Worth,
    qualities: tuple[Quality, ...],
    link: LinkEstimate,
    room: Room,
    most_n: int,
) -> Choice:
    frame_bytes = link.frame_bytes
    states = _states(replace(worth, qualities=()), replace(link, frame_bytes=None))  # known for all frames of a link
    packet_bytes = np.array([one.bytes for one in qualities])[:, np.newaxis]
    wasted = packet_bytes / FEWEST_PACKETS / 2  # in each symbol: half a packet that did not fit
    body = packet_bytes * states.bytes / states.n + states.stripes * (STRIPE_BYTES + wasted)  # (qualities, t)
    total = (states.n + states.asked) * (MAX_DATAGRAM_BYTES - room.body_bytes + body)
    expected = np.array([one.agreement for one in qualities])[:, np.newaxis] * states.worth
    may = (body <= room.body_bytes) & (states.n <= most_n)
    value = np.where(may, expected - _price(frame_bytes) * total, -np.inf)
    best = int(value.argmax())
    if not np.isfinite(value.flat[best]):
        raise UsageError(
            f"a frame of {packet_bytes.min():.0f} bytes does not fit {min(most_n, int(states.n.max()))} datagrams"
        )
    if frame_bytes is not None and total.flat[best] > frame_bytes:
        good = GOOD_ENOUGH * expected.flat[best]
        fits = np.where(total <= frame_bytes, value, -np.inf)
        if expected.flat[fits.argmax()] >= good and np.isfinite(fits.max()):
            best = int(fits.argmax())
        else:  # frames as small as may be, and fewer of them
            best = int(np.where(np.isfinite(value) & (expected >= good), total, np.inf).argmin())
    quality, state = divmod(best, len(states.n))
    return Choice(
        qualities[quality],
        int(states.n[state]),
        tuple(states.ks[state].tolist()),
        float(total.flat[best]),
        float(expected.flat[best]),
        _value(expected.flat[best], total.flat[best], frame_bytes),
    )


def _price(frame_bytes: float | None) -> float:
    """Return the agreement that a byte has to gain if the link carries `frame_bytes` in a frame's time."""
    return min(GAIN_A_KB / 1000, GAIN_A_FRAME / frame_bytes) if frame_bytes else GAIN_A_KB / 1000


def _value(expected: float, total: float, frame_bytes: float | None) -> float:
    """Return what frames of `total` bytes are worth, of which some do not pass if the link carries fewer."""
    passing = 1.0 if frame_bytes is None else min(frame_bytes / total, 1.0)
    return float(passing * expected - _price(frame_bytes) * total)


@lru_cache(16)
def _states(worth: Worth, link: LinkEstimate) -> States:
    found = [_states_of(n, worth, link) for n in (DATAGRAMS if worth.kept else DATAGRAMS + MORE_DATAGRAMS)]
    return States(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _states_of(n: int, worth: Worth, link: LinkEstimate) -> States:
    """Return the states on the way of the marginal analysis, and the one without parity, for n datagrams.

    If the cloud can ask for more, a class that is not whole at first costs what is asked for, and mostly comes late.
    """
    bounds, values = worth.classes
    shares, gains = np.diff(bounds), np.diff(values)
    chances, arrived = link.arrivals(n), np.arange(n + 1)
    heard = arrived > 0  # the cloud hardly asks in time for a frame of which nothing has arrived
    asked = np.maximum(arrived[:, np.newaxis] - arrived, 0) @ (heard * chances) / (1 - link.loss) * (link.rounds > 0)
    some = np.unique(np.geomspace(1, n, MOST_KS).round().astype(np.intp))
    ks = np.concatenate([[0], some[::-1]])  # not sent, then from no parity to most
    cost = np.concatenate([[0.0], (n + asked[ks[1:]]) / ks[1:]])
    first = chances[::-1].cumsum()[::-1][ks[1:]]
    gain = np.concatenate([[0.0], first + (1 - chances[0] - first) * link.on_request])
    corners = hull(cost, gain)
    ks, cost, gain = ks[corners], cost[corners], gain[corners]
    a_byte = (gains / shares)[:, np.newaxis] * (np.diff(gain) / np.diff(cost))  # (classes, steps)
    order = np.argsort(-a_byte, axis=None, kind="stable")
    order = order[a_byte.flat[order] > 0]
    taken = np.zeros((len(order), len(shares)), np.intp)
    taken[np.arange(len(order)), order // a_byte.shape[1]] = 1
    level = taken.cumsum(axis=0)  # (t, classes): steps taken, each class its own in their order
    bare = np.full((1, len(shares)), n)
    all_ks = np.concatenate([ks[level], bare])
    multiple = np.divide(n, all_ks, out=np.zeros(all_ks.shape), where=all_ks > 0) @ shares
    stripes = (np.diff(all_ks, axis=1, prepend=0) != 0).sum(axis=1) - (all_ks[:, -1] == 0)
    is_whole = (all_ks[:, :, np.newaxis] <= arrived) & (all_ks[:, :, np.newaxis] > 0)  # (t, classes, n + 1)
    classes = is_whole.sum(axis=1)  # (t, n + 1)
    whole, sent = bounds[classes], bounds[(all_ks > 0).sum(axis=1)]
    there = whole + (sent[:, np.newaxis] - whole) * arrived / n
    at_first = np.maximum(values[classes], worth.by_chance(there))
    at_last = link.on_request * worth.of(sent)[:, np.newaxis] * heard + (1 - link.on_request) * at_first
    expected = np.maximum(at_first, at_last) @ chances
    return States(np.full(len(all_ks), n), all_ks, multiple, stripes, asked[all_ks.max(axis=1)], expected)


def _classes(ks: tuple[int, ...], bounds: Floats, entries: Indices) -> list[PacketClass]:
    """Divide packets of `entries` (m,) bytes, by importance, into classes, and join those of the same k."""
    ends = np.searchsorted(np.cumsum(entries), bounds[1:] * entries.sum() * (1 - 1e-9)) + 1
    ends_of = {k: min(int(end), len(entries)) for k, end in zip(ks, ends, strict=True) if k}  # the last of each k
    return [PacketClass(k, end) for k, end in ends_of.items()]


def _less(classes: list[PacketClass], n: int) -> list[PacketClass]:
    """Return classes that take fewer bytes: with less parity for the last one, or without its last packets."""
    (k, end), first = classes[-1], classes[-2].end if len(classes) > 1 else 0
    if k < n:
        return [*classes[:-1], PacketClass(k + 1, end)]
    fewer = end - max((end - first) // 16, 1)
    return [*classes[:-1], PacketClass(k, fewer)] if fewer > first else classes[:-1]


def _joined(classes: list[PacketClass]) -> list[PacketClass]:
    """Return classes of rising k, each of at least k packets: empty symbols would only cost bytes.

    A class of so few packets that it would have no more symbols than the one before joins that.
    """
    joined: list[PacketClass] = []
    for k, end in classes:
        packets = end - (joined[-1].end if joined else 0)
        if joined and min(k, packets) <= joined[-1].k:
            joined[-1] = PacketClass(joined[-1].k, end)
        elif packets:
            joined.append(PacketClass(min(k, packets), end))
    return joined


def read_policy(text: str, code: ErasureCode) -> AutoProtection | None:
    """Read `auto`, for a codec of which nothing is known; None for any other text."""
    return AutoProtection(USUAL, code) if text.lower() == NAME else None


# Packets of ResNet-50's default cut, ranked by the proxy, filled with means: docs/explanation/results.md, Figure 5.
USUAL = Worth((), ((0.3, 0.875), (0.4, 0.918), (0.5, 0.949), (0.6, 0.968), (1.0, 1.0)), scatter=4.0)

# AVIF pictures for ResNet-50, 224 x 224: docs/explanation/results.md, "Bytes a frame". Bytes are of whole datagrams.
PICTURES = Worth(
    (
        Quality(20, 1850, 0.5925),
        Quality(30, 2578, 0.7),
        Quality(40, 3686, 0.795),
        Quality(50, 5569, 0.87),
        Quality(60, 7939, 0.92),
        Quality(65, 8815, 0.9275),
        Quality(70, 10230, 0.9375),
        Quality(80, 12396, 0.9475),
        Quality(85, 13370, 0.9525),
        Quality(90, 15245, 0.9625),
        Quality(95, 18322, 0.9725),
    ),
    (),
)
PIXELS = 224 * 224  # of those


def usual_pictures(pixels: int, room: Room) -> Worth:
    """Return a guess for pictures of `pixels`: worth what they are to ResNet-50, at as many bytes a pixel."""
    packets = room.left() / MAX_DATAGRAM_BYTES  # their share of a datagram
    qualities = (one._replace(bytes=packets * pixels / PIXELS * one.bytes) for one in PICTURES.qualities)
    return replace(PICTURES, qualities=tuple(qualities))
