"""Small decided tensors, and an inference whose workers can be chosen, for the tests of the cloud."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.common.answers import HEAD

from gradfec_cloud.decoding import Decoder
from gradfec_cloud.inference import Inference, Inferred
from gradfec_cloud.workers.pool import BackEndName, GiveBack, Workers
from gradfec_common.heads import Answer, Classes
from gradfec_common.networks import named_cut
from gradfec_common.plan import parse_scheme
from gradfec_common.reassembly import Reassembly
from gradfec_common.session.events import Decided
from gradfec_common.transmit import encode_tensor, packet_grid
from gradfec_common.wire import read_symbols

SPLIT = named_cut("pool1_pool")
GRID = packet_grid(SPLIT, 14)  # 256 packets
NAME = BackEndName("toy", SPLIT.name)
SOON_S = 60.0  # a safety net


def decided(number: int, lost: int = 0, session: int = 1) -> Decided:
    """Return a tensor whose elements are `number`, but for one 0 at its end, without its first `lost` datagrams."""
    chi = np.full(SPLIT.shape, number, np.float32)
    chi[-1, -1, -1] = 0
    scores = np.arange(GRID.count, 0, -1).astype(np.float32)
    encoded = encode_tensor(chi, parse_scheme("FEC_50_50").plan(scores), GRID, SPLIT)
    headers, symbols = read_symbols(encoded.bodies(number)[lost:])
    arrived = Reassembly(headers[0], GRID)
    arrived.add(headers, symbols)
    return Decided(session, number, arrived, arrived.complete, 0.25)


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


def answer(one: Decided, output: npt.NDArray[np.float32]) -> Answer:
    """Return the answer of a head that names its classes by their numbers."""
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


def infer(open_workers: Callable[[GiveBack], Workers], deliver: Deliveries, **options: Any) -> Inference:
    """Start inference on one back-end, with zeros for what is missing."""
    return Inference(open_workers, lambda one: NAME, Decoder(0.0), answer, deliver, **options)
