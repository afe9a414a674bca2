"""Small decided tensors, and an inference whose workers can be chosen, for the tests of the cloud."""

from __future__ import annotations

import queue
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.common.answers import HEAD

from gradfec_cloud.backend import BackEnd
from gradfec_cloud.inference import Inference, Inferred
from gradfec_cloud.workers.local import LocalWorkers
from gradfec_cloud.workers.pool import BackEndName, GiveBack, Station, Workers, back_end_name
from gradfec_cloud.workers.station import CutStation
from gradfec_common.conceal import Concealment
from gradfec_common.conceal.zero import Zero
from gradfec_common.heads import Answer, Classes
from gradfec_common.networks import Cut, named_cut
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, read_policy
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.reassembly import Reassembly
from gradfec_common.session.events import Decided
from gradfec_common.transmit import EncodedTensor, encode_tensor, room_for

SPLIT = named_cut("pool1_pool")
GRID = PacketGrid(SPLIT.shape, 14)  # 256 packets
ZERO: Concealment = Zero(SPLIT, {})
NAME = back_end_name(SPLIT)
SOON_S = 60.0  # a safety net


def encoded(number: int, policy: str = "FEC_50_50", codec: str = "uniform8", most: int | None = 1) -> EncodedTensor:
    """Encode a tensor whose elements are `number`, but for one 0 at its end, with so many packets in a datagram.

    The first packets matter most.
    """
    quantiser = QUANTISERS[codec]
    chi = np.full(SPLIT.shape, number, np.float32)
    chi[-1, -1, -1] = 0
    coded = quantiser.encode(chi, GRID)
    importance, room = np.arange(GRID.count, 0, -1).astype(np.float32), room_for(quantiser.parameter_bytes, most)
    return encode_tensor(
        coded, quantiser, read_policy(policy).plan(importance, coded.packets.sizes, UNKNOWN_LINK, room)
    )


def decided(
    number: int, lost: int = 0, session: int = 1, tensor: EncodedTensor | None = None, cut: Cut = SPLIT
) -> Decided:
    """Return a tensor of that number, or another, without its first `lost` datagrams."""
    bodies = (tensor or encoded(number)).bodies(number)
    arrived = Reassembly(bodies[-1].tobytes(), GRID)
    arrived.add(bodies[lost:])
    return Decided(session, number, arrived, arrived.complete, 0.25, cut)


def undecodable(number: int) -> Decided:
    """Return a tensor on which decoding raises an error."""
    one = decided(number)
    one.arrived.symbols = one.arrived.symbols[:, :0]
    return one


def sure_of(chi: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return probabilities (N, 1000), 1 for the class that each tensor's first element names."""
    probabilities = np.zeros((len(chi), 1000), np.float32)
    probabilities[np.arange(len(chi)), chi[:, 0, 0, 0].round().astype(int)] = 1
    return probabilities


def answer(cut: Cut, output: npt.NDArray[np.float32]) -> Answer:
    """Return the likeliest class; a head without labels calls classes by their numbers."""
    return Classes(HEAD.answer(output, ()).best[:1])


def sure(number: int) -> Classes:
    """Return the answer to what is `sure_of` a class."""
    return Classes(((number, f"class {number}", 1.0),))


class Deliveries:
    """Keeps what is delivered, in its order."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Inferred] = queue.Queue()

    def __call__(self, batch: list[Inferred]) -> None:
        for one in batch:
            self._queue.put(one)

    def next(self) -> Inferred:
        return self._queue.get(timeout=SOON_S)

    def take(self, count: int) -> list[Inferred]:
        """Wait for so many, which must be all."""
        found = [self.next() for _ in range(count)]
        assert self._queue.empty()
        return found


def stations(
    load: Callable[[], BackEnd], cut: Cut = SPLIT, conceal: Concealment = ZERO
) -> dict[BackEndName, Callable[[], Station]]:
    """Return the loader of one back-end behind a decoder, by default with zeros in place of missing packets."""
    return {back_end_name(cut): partial(CutStation, load, cut, conceal)}


def locally(load: Callable[[], BackEnd], cut: Cut = SPLIT, conceal: Concealment = ZERO) -> partial[LocalWorkers]:
    """Return a function that opens local workers for one back-end."""
    return partial(LocalWorkers, stations(load, cut, conceal))


def infer(
    open_workers: Callable[[GiveBack, Callable[[], None]], Workers], deliver: Deliveries, **options: Any
) -> Inference:
    """Start inference on workers, which answer with one class."""
    return Inference(open_workers, answer, deliver, **options)
