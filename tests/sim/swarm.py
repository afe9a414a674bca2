"""What a seed draws for a run: which troubles there are at all, parameters, limits, tensors, and weather.

Swarm testing (Groce et al., ISSTA 2012): each trouble is present in some runs only, so that none of them always hides
what another would show.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.common.small_tensors import FEC_CODES, odd_plan

from gradfec_cli.channel import ChannelSettings
from gradfec_common.conceal import Concealment
from gradfec_common.conceal.mean import Mean
from gradfec_common.conceal.zero import Zero
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, NestedProtection, NoProtection, Plan, Policy, UnequalProtection
from gradfec_common.quantisers import QUANTISERS, Coded, Quantiser
from gradfec_common.replay import REPLAY_WINDOW
from gradfec_common.seal import REKEY_DATAGRAMS
from gradfec_common.session.edge import EdgeLimits
from gradfec_common.session.events import CloudLimits
from gradfec_common.sketch import JPEG_MAGIC, LEVELS, Sketch, importance_levels, plan_fates
from gradfec_common.transmit import EncodedTensor, encode_tensor, room_for
from gradfec_common.wire.symbol import STRIPE_BYTES, read_headers

from .ledger import DEFLATE
from .network import DEAD, Weather

WEATHER = ("bursts", "delay", "jitter", "reorder", "corrupt", "truncate", "mtu", "rate", "dark")
ACCIDENTS = (
    *("partition", "edge moves", "edge restarts", "edge leaves", "cloud restarts", "cloud leaves"),
    *("back-end stalls", "keys change"),
)
HABITS = ("asymmetry", "coarse clocks", "small batches", "shuffled batches", "failing back-end")
ATTACKERS = ("garbage", "spoofer", "replayer", "flooder", "middle", "insider", "greedy")
DENSITIES = (0.1, 0.3, 0.6)  # of a run: the probability of each trouble, but for those that others depend on
OFTEN = {
    "tight limits": 0.7,
    "loss": 0.5,
    "duplicate": 0.5,
    "short epochs": 0.6,
    "spared": 0.15,
    **dict.fromkeys(ATTACKERS, 0.25),
}
NOT_SPARED = {"cloud restarts", "cloud leaves", "back-end stalls", "failing back-end", "keys change"}
RARE = ("dark", "mtu", "truncate", "rate")  # what leaves little for other troubles to do

# (H, W, C) and rows: 12 packets of 84 elements, 6 of 120, 4 of 150, and a single one of 700
GRIDS = (((14, 12, 6), 7), ((4, 60, 3), 2), ((2, 150, 2), 1), ((7, 100, 1), 7))
QUANTISERS_USED: tuple[Quantiser, ...] = (QUANTISERS["uniform8"], QUANTISERS["sqrt4"], DEFLATE)
FILLS = (0.0, -1.0)  # of gaps: of `zero`, and of `mean` with means that no packet has
FORMS = 2  # of an edge's tensors: cuts with the same grid
POOL = 6  # different tensors that a run sends over and over
LEAST_EPOCH = 32  # datagrams: more than come in one batch over a clean link, of which none is out of reach then
ANSWER_BYTES = 600  # more than result, report and signs of life have: a tensor as large as that pays for them


@dataclass(frozen=True)
class Content:
    """A tensor of the pool: as it is sent, the packets (count, size) that it should come to, its sketch, its form."""

    encoded: EncodedTensor
    packets: npt.NDArray[np.float32]
    sketch: Sketch
    form: int

    @property
    def plan(self) -> Plan:
        """What becomes of its packets."""
        return self.encoded.plan

    @property
    def is_large(self) -> bool:
        """Whether the tensor's datagrams have so many bytes that all the answers to it may be sent."""
        return self.encoded.wire_bytes >= ANSWER_BYTES

    @cached_property
    def labels(self) -> list[tuple[int, int]]:
        """Group and index of the datagram at each position of the send order."""
        headers = read_headers(self.encoded.unnumbered)
        return [*zip(headers["group"].tolist(), headers["index"].tolist(), strict=True)]


def content(rng: np.random.Generator, grid: PacketGrid) -> Content:
    """Draw a tensor, a quantiser, and a plan that the cloud takes."""
    quantiser = QUANTISERS_USED[int(rng.integers(len(QUANTISERS_USED)))]
    coded = draw_coded(rng, quantiser, grid)
    plan = draw_plan(rng, coded, grid)
    return content(rng, grid) if plan is None else content_of(rng, quantiser, coded, plan, grid)


def draw_coded(rng: np.random.Generator, quantiser: Quantiser, grid: PacketGrid) -> Coded:
    """Draw and code a tensor, no packet of which looks like a gap.

    Packets have few different elements or many, so that the lengths of those that are deflated differ.
    """
    different = rng.choice([1, 3, 20, 256], (grid.count, 1))
    packets = float(rng.integers(1, 1000)) + rng.integers(0, different, (grid.count, grid.size))
    return quantiser.encode(grid.join(packets.astype(np.float32)), grid)


def content_of(rng: np.random.Generator, quantiser: Quantiser, coded: Coded, plan: Plan, grid: PacketGrid) -> Content:
    """Encode a tensor as planned, and draw its sketch."""
    whole = quantiser.decode(coded.packets, coded.parameters, grid)
    photograph = JPEG_MAGIC + rng.bytes(int(rng.choice([10, 3000]))) if rng.random() < 0.5 else b""
    sketch = Sketch(plan_fates(plan), importance_levels(rng.random(grid.count, np.float32), LEVELS), photograph)
    form = int(rng.integers(FORMS))
    return Content(encode_tensor(coded, quantiser, plan, form=form), grid.split(whole.tensor), sketch, form)


def draw_plan(rng: np.random.Generator, coded: Coded, grid: PacketGrid) -> Plan | None:
    """Draw a policy's plan, or one that no policy makes; None where its datagrams are too many, or too long."""
    sizes, room = coded.packets.sizes, room_for(len(coded.parameters), (1, 1, 2, 3, None)[int(rng.integers(5))])
    if rng.random() < 0.4:
        plan = odd_plan(rng, sizes)
    else:
        try:
            plan = draw_policy(rng).plan(rng.random(grid.count, np.float32), sizes, UNKNOWN_LINK, room)
        except UsageError:
            return None
    fits = plan.symbol_bytes + STRIPE_BYTES * len(plan.groups[0].stripes) <= room.body_bytes
    few = plan.sent <= most_sent(grid) and plan.sent * plan.symbol_bytes <= most_held(grid)
    return with_reserve(rng, plan) if fits and few else None


def with_reserve(rng: np.random.Generator, plan: Plan) -> Plan:
    """Hold some of a plan's parity back, or none."""
    if len(plan.groups) > 1 or not plan.parity or rng.random() < 0.25:
        return plan
    return dataclasses.replace(plan, reserve=int(rng.integers(1, plan.parity + 1)))


def draw_policy(rng: np.random.Generator) -> Policy:
    """Draw a policy: none, FEC_A_B with groups of any size, or nested classes."""
    code = FEC_CODES[int(rng.integers(len(FEC_CODES)))]
    kind = rng.random()
    if kind < 0.2:
        return NoProtection()
    if kind < 0.6:
        code = dataclasses.replace(code, group=int(rng.choice([2, 4, 256])))
        return UnequalProtection(float(rng.choice([10, 25, 50])), code)
    n = int(rng.integers(1, 11))
    ks = rng.permutation(np.arange(1, n + 1))[: int(rng.integers(1, 5))]
    return NestedProtection(tuple(sorted(ks.tolist())), n, code)


def most_sent(grid: PacketGrid) -> int:
    """Return the most datagrams that a tensor of the pool has."""
    return grid.count + 4


def most_held(grid: PacketGrid) -> int:
    """Return the most bytes of symbols that a tensor of the pool has."""
    return most_sent(grid) * (grid.size + 6)


@dataclass(frozen=True)
class Swarm:
    """What a seed draws for the whole of its run."""

    edges: int = 1
    shape: tuple[int, int, int] = GRIDS[0][0]
    rows: int = GRIDS[0][1]
    interval_s: float = 0.05  # between the tensors of an edge, on average
    sending_s: float = 0.02
    bursts: int = 4  # in which a tensor's datagrams leave
    deadline_s: float = 0.25
    tick_s: float = 0.001  # the shells look at sockets and clocks this often
    batch: int = 256  # datagrams that a shell takes at a time
    service_s: float = 0.01  # of the back-end, which takes one tensor at a time
    failure: float = 0.0  # probability that it fails
    bad_phase_s: float = 0.0
    fill: float = 0.0  # of gaps
    features: frozenset[str] = frozenset()
    shared_key: bool = False  # by all edges
    liars_share_key: bool = False  # with the first edge
    labels: bool = False  # the cloud calls edges by their keys
    epoch: int = REKEY_DATAGRAMS
    window: int = REPLAY_WINDOW
    cloud: CloudLimits = field(default_factory=CloudLimits)
    edge: EdgeLimits = field(default_factory=lambda: EdgeLimits(tensors_in_flight=64))

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Cuts of a network that does not exist, by form."""
        return tuple(Cut(RESNET50, 900 + form, "a_small_one", self.shape) for form in range(FORMS))

    @property
    def cut(self) -> Cut:
        """That of form 0."""
        return self.cuts[0]

    @property
    def conceal(self) -> Concealment:
        """What fills gaps with `fill`."""
        means = np.full(self.shape[2], self.fill, np.float32)
        return Mean(self.cut, {"means": means}) if self.fill else Zero(self.cut, {})

    @property
    def grid(self) -> PacketGrid:
        """The packets of a tensor."""
        return PacketGrid(self.shape, self.rows)

    @property
    def is_small(self) -> bool:
        """Whether a session may send so few datagrams that a tensor with its control messages might be too many."""
        return self.grid.count < 12 or self.cloud.tensors_per_session < 8

    @staticmethod
    def draw(dice: random.Random) -> Swarm:
        """Draw parameters, often extreme ones."""
        density = dice.choice(DENSITIES)
        features = frozenset(
            [name for name in (*WEATHER, *ACCIDENTS, *HABITS) if dice.random() < density]
            + [name for name, probability in OFTEN.items() if dice.random() < probability]
        )
        edges = dice.choice([1, 1, 2, 2, 3, 5])
        phase = dice.uniform(0.7, 3)
        shape, rows = dice.choice(GRIDS)
        grid = PacketGrid(shape, rows)
        tight = "tight limits" in features
        one_tensor = most_held(grid)
        sessions = edges + dice.choice([0, 1, 5])
        window = dice.choice([4, 4, 16])
        keys = {
            "shared_key": dice.random() < 0.4,
            "liars_share_key": dice.random() < 0.4,
            "labels": dice.random() < 0.5,
            "fill": dice.choice(FILLS),
        }
        if "short epochs" in features:
            keys |= {"window": window, "epoch": max(window, LEAST_EPOCH) * dice.choice([1, 2, 16])}
        if "spared" in features:
            return Swarm.draw_spared(dice, edges, shape, rows, phase, features - NOT_SPARED, keys)
        return Swarm(
            edges=edges,
            shape=shape,
            rows=rows,
            interval_s=max(dice.choice([0.02, 0.05, 0.2]), edges * phase / 60),
            sending_s=dice.choice([0.0, 0.02, 0.2]),
            bursts=dice.choice([1, 2, 4]),
            deadline_s=dice.choice([0.05, 0.25, 1.0]),
            tick_s=dice.choice([0.005, 0.02, 0.05]) if "coarse clocks" in features else dice.choice([0.0, 0.001]),
            batch=dice.choice([1, 4, 4, 16]) if "small batches" in features else 256,
            service_s=dice.choice([0.0, 0.02, 0.2]),
            failure=0.2 if "failing back-end" in features else 0.0,
            bad_phase_s=phase,
            features=features,
            cloud=CloudLimits(
                sessions=sessions,
                sessions_per_key=edges + dice.choice([0, 1, 5]),
                greetings=dice.choice([3, 20, 4096]),
                addresses=dice.choice([2, 20]),
                tensors_per_s=dice.choice([5.0, 200.0]),
                tensors_per_session=dice.choice([1, 1, 2, 4]),
                pending_tensors=dice.choice([1, 3]),
                reassembly_bytes=dice.choice([edges, 2 * edges, 8 * sessions]) * one_tensor,  # shared
                reorder_s=dice.choice([0.0, 0.03, 0.2, 0.5]),
                answers_per_session=dice.choice([2, 6]),
                tensor_window=dice.choice([3, 20]),
                sketch_bytes=dice.choice([1024, 65_536]),
            )
            if tight
            else CloudLimits(sessions=edges + 40),
            edge=EdgeLimits(tensors_in_flight=dice.choice([1, 8, 64]) if tight else 64),
            **keys,
        )

    @staticmethod
    def draw_spared(
        dice: random.Random,
        edges: int,
        shape: tuple[int, int, int],
        rows: int,
        phase: float,
        features: frozenset[str],
        keys: dict[str, Any],
    ) -> Swarm:
        """Draw parameters under which an edge with a good link has each of its tensors answered, whatever others do.

        Its share of memory is more than it needs, and its share of the back-end's time, with a session for each place.
        """
        sessions = edges + dice.choice([4, 8])
        grid = PacketGrid(shape, rows)
        if "short epochs" in features:  # not so short that others' mischief costs a session
            keys |= {"window": 64, "epoch": 64 * dice.choice([1, 4])}
        return Swarm(
            edges=edges,
            shape=shape,
            rows=rows,
            interval_s=max(0.05, edges * phase / 60),
            sending_s=dice.choice([0.0, 0.01]),
            bursts=dice.choice([1, 2, 4]),
            tick_s=dice.choice([0.0, 0.001, 0.005]),
            batch=dice.choice([1, 4, 16]) if "small batches" in features else 256,
            service_s=dice.choice([0.0, 0.001]),
            bad_phase_s=phase,
            features=features,
            cloud=CloudLimits(
                sessions=sessions,
                sessions_per_key=max(sessions - edges, edges),
                reassembly_bytes=4 * sessions * most_held(grid),
            ),
            **keys,
        )


def draw_weather(dice: random.Random, features: frozenset[str]) -> Weather:
    """Draw the state of one way of a link: of the troubles that the run has, some."""
    on = {name for name in WEATHER if name in features and dice.random() < (0.2 if name in RARE else 0.6)}
    if "dark" in on:
        return DEAD
    delay = dice.choice([0.02, 0.1, 0.5]) if "delay" in on else 0.001
    if "jitter" in on:
        delay = max(delay, dice.choice([0.005, 0.05, 0.2]))
    loss = dice.choice([0.05, 0.2, 0.2, 0.5]) if "loss" in features and dice.random() < 0.6 else 0.0
    burst = None
    if "bursts" in on:
        loss, burst = dice.uniform(0.05, 0.4), dice.uniform(2, 10)
    channel = ChannelSettings(
        loss=loss,
        burst=burst,
        delay_s=delay,
        jitter_s=delay if "jitter" in on else 0.0,
        reorder=dice.choice([0.02, 0.3]) if "reorder" in on else 0.0,
        reorder_by_s=dice.choice([0.005, 0.05, 0.5]),
        duplicate=dice.choice([0.05, 0.4]) if "duplicate" in features else 0.0,
        corrupt=dice.choice([0.01, 0.3]) if "corrupt" in on else 0.0,
        rate_bps=dice.choice([2e5, 2e6]) if "rate" in on else None,
        queue_datagrams=dice.choice([5, 50, 1000]),
    )
    truncate = dice.choice([0.01, 0.3]) if "truncate" in on else 0.0
    return Weather(channel, truncate, dice.choice([60, 100, 200, 520]) if "mtu" in on else 65_535)
