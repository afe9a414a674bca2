"""Small tensors and odd plans, for tests that need many of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common import wire
from gradfec_common.codes import BARE, CODES, FEC
from gradfec_common.networks import Cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.plan import Block, Plan
from gradfec_common.transmit import EncodedTensor, encode_tensor

SPLIT = Cut(RESNET50, 900, "a_small_one", (14, 4, 6))
GRID = PacketGrid(SPLIT.shape, 7)  # 12 packets of 28 elements
TENSOR = 5
FEC_CODES = [code for code in FEC.values() if code.id in CODES]  # those whose library is installed


def features(rng: np.random.Generator, shape: tuple[int, int, int] = SPLIT.shape) -> npt.NDArray[np.float32]:
    """Draw a tensor without a zero in it, so that what is filled can be told from what has arrived."""
    return rng.uniform(0.5, 9, shape).astype(np.float32)


def odd_plan(rng: np.random.Generator, total: int = GRID.count) -> Plan:
    """Draw a plan of the general form: some packets dropped, the others in blocks of any (n, k) and code."""
    packets = rng.permutation(total)
    kept = int(rng.integers(1, total + 1))
    count = int(rng.integers(1, min(kept, 4) + 1))
    cuts = np.sort(rng.choice(np.arange(1, kept), count - 1, replace=False))
    blocks = []
    for members in np.split(packets[:kept], cuts):
        bare = rng.random() < 0.3
        n = len(members) + (0 if bare else int(rng.integers(0, len(members) + 3)))
        blocks.append(Block(members, n, BARE if bare else FEC_CODES[int(rng.integers(len(FEC_CODES)))]))
    return Plan(total, np.sort(packets[kept:]), tuple(blocks))


def encoded(plan: Plan, seed: int = 0) -> EncodedTensor:
    """Encode the features that `seed` draws."""
    return encode_tensor(features(np.random.default_rng(seed)), plan, GRID, SPLIT)


def bodies_of(plan: Plan, seed: int = 0, tensor: int = TENSOR) -> list[bytes]:
    """Return the bodies of the tensor's datagrams in send order: what is to be sealed."""
    return [row.tobytes() for row in encoded(plan, seed).bodies(tensor)]


def matrix_of(bodies: list[bytes]) -> wire.Bytes:
    """Return bodies of one length as a (count, length) matrix."""
    return np.stack([np.frombuffer(body, np.uint8) for body in bodies])


def headers_of(bodies: list[bytes]) -> npt.NDArray[np.void]:
    """Read the (count,) SYMBOL_HEADER records of bodies."""
    return np.frombuffer(b"".join(body[: wire.HEADER_BYTES] for body in bodies), wire.SYMBOL_HEADER).copy()


def symbols_of(bodies: list[bytes]) -> wire.Bytes:
    """Read the (count, length) symbols of bodies."""
    return matrix_of([body[wire.HEADER_BYTES :] for body in bodies])
