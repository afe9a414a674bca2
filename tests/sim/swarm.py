"""What a simulation draws from its seed: tensors, edges, limits, and the weather on each way of each link."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from tests.common.small_tensors import GRID, SPLIT, features, odd_plan

from gradfec_common import wire
from gradfec_common.quantise import dequantise, quantise
from gradfec_common.session.edge import EdgeLimits, EdgeSession
from gradfec_common.session.events import CloudLimits
from gradfec_common.transmit import EncodedTensor, encode_tensor
from gradfec_lab.channel import Channel, ChannelSettings

Address = tuple[str, int]
# intact datagrams of an open session that the cloud may refuse: after these it need not know all that arrived
REFUSALS = ("memory_limit", "tensor_limit", "out_of_window", "leaving", "foreign_address")
POOL = 8  # different tensors that a simulation sends over and over
MOST_SYMBOLS = 64  # of one tensor of an `odd_plan`
SYMBOL_BYTES = wire.PLACE_BYTES + GRID.size


@dataclass(frozen=True)
class Content:
    """A tensor of the pool: as it is sent, and the packets (12, 28) that the cloud should make of it."""

    encoded: EncodedTensor
    packets: npt.NDArray[np.float32]


def content(seed: int) -> Content:
    """Draw a tensor and an odd plan for it."""
    rng = np.random.default_rng(seed)
    chi = features(rng)
    return Content(encode_tensor(chi, odd_plan(rng), GRID, SPLIT), GRID.split(dequantise(*quantise(chi))))


@dataclass
class Sent:
    """A tensor that an edge has sent, and what the simulation knows of it."""

    uid: int
    content: Content
    got: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))  # by block: indices at the cloud
    refused: bool = False
    decided: tuple[str, int, int] | None = None  # outcome, recovered, missing
    finished: bool = False

    @property
    def complete(self) -> bool:
        """Whether every block has k symbols at the cloud."""
        return all(len(self.got[n]) >= block.k for n, block in enumerate(self.content.encoded.plan.blocks))


@dataclass
class Edge:
    """An edge, through all its restarts and changes of address."""

    name: str
    address: Address
    core: EdgeSession
    up: list[Channel[Address]]  # the newest last; the others deliver what they still hold
    down: list[Channel[Address]]
    fed: int = 0
    life: int = 0
    open: set[int] = field(default_factory=set)
    sent: dict[int, Sent] = field(default_factory=dict)
    answered: dict[int, str] = field(default_factory=dict)  # outcome, by tensor
    lost_links: int = 0
    refusals: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Swarm:
    """What a seed draws for the whole of its simulation."""

    edges: int
    interval_s: float  # between the tensors of an edge
    sending_s: float
    bursts: int  # in which a tensor's datagrams leave
    deadline_s: float
    tick_s: float  # the shells look at sockets and clocks this often
    service_s: float  # of the back-end, which takes one tensor at a time
    stall: float  # probability that it takes 2 s
    failure: float  # probability that it fails
    bad_phase_s: float
    cloud: CloudLimits
    edge: EdgeLimits

    @staticmethod
    def draw(rng: np.random.Generator) -> Swarm:
        """Draw parameters, often extreme ones."""
        edges = int(rng.integers(1, 5))
        phase = float(rng.uniform(2, 8))
        interval = max(float(rng.choice([0.02, 0.1, 0.3])), edges * phase / 100)
        some_memory = int(rng.choice([1, 2, 5])) * MOST_SYMBOLS * SYMBOL_BYTES
        cloud = CloudLimits(
            sessions=edges + int(rng.choice([0, 1, 50])),
            tensors_per_session=int(rng.choice([1, 2, 8])),
            pending_tensors=int(rng.choice([1, 3, 64])),
            reassembly_bytes=int(rng.choice([some_memory, 2**29])),
            reorder_s=float(rng.choice([0.0, 0.03, 0.2])),
            answers_per_session=int(rng.choice([2, 6, 64])),
            tensor_window=int(rng.choice([3, 20, 256])),
        )
        return Swarm(
            edges=edges,
            interval_s=interval,
            sending_s=float(rng.choice([0.0, 0.02, 0.2])),
            bursts=int(rng.choice([1, 2, 4])),
            deadline_s=float(rng.choice([0.05, 0.25, 1.0])),
            tick_s=float(rng.choice([0.0, 0.001, 0.005, 0.02])),
            service_s=float(rng.choice([0.0, 0.02, 0.2])),
            stall=float(rng.choice([0.0, 0.0, 0.1])),
            failure=float(rng.choice([0.0, 0.0, 0.2])),
            bad_phase_s=phase,
            cloud=cloud,
            edge=EdgeLimits(tensors_in_flight=int(rng.choice([1, 4, 64]))),
        )


CLEAN = ChannelSettings(delay_s=0.001)


def bad_weather(rng: np.random.Generator) -> ChannelSettings:
    """Draw the state of one way of a link."""
    kind = rng.choice(["clean", "loss", "bursts", "blackout", "slow", "disorder", "broken"])
    match kind:
        case "loss":
            return ChannelSettings(loss=float(rng.uniform(0, 0.7)))
        case "bursts":
            return ChannelSettings(loss=float(rng.uniform(0.05, 0.5)), burst=float(rng.uniform(2, 20)), delay_s=0.01)
        case "blackout":
            return ChannelSettings(loss=1.0)
        case "slow":
            return ChannelSettings(loss=0.1, delay_s=float(rng.uniform(0.1, 1.0)))
        case "disorder":
            delay = float(rng.uniform(0.001, 0.2))
            return ChannelSettings(
                delay_s=delay, jitter_s=delay, reorder=0.2, reorder_by_s=float(rng.uniform(0, 0.5)), duplicate=0.2
            )
        case "broken":
            return ChannelSettings(corrupt=float(rng.uniform(0.01, 0.4)), duplicate=0.1, loss=0.1)
    return CLEAN
