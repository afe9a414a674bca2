"""A small network, its tensors, and odd plans, for tests that need many of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradfec_common.codes import BARE, CODES, FEC, ZFEC, ErasureCode
from gradfec_common.conceal import Concealment
from gradfec_common.conceal.zero import Zero
from gradfec_common.heads import Classify
from gradfec_common.networks import Layer, Network, Preprocess
from gradfec_common.networks.network import MASKED
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, Group, Plan, Room, Stripe, read_policy
from gradfec_common.quantisers import QUANTISERS, Coded, Needs, Quantiser
from gradfec_common.symbols import Packing, entry_sizes, pack
from gradfec_common.transmit import EncodedTensor, encode_tensor, room_for
from gradfec_common.wire import Bytes
from gradfec_common.wire.symbol import FIXED_BYTES, MAX_SENT_PER_PACKET, STRIPE, SYMBOL_HEADER, read_headers

Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]

SHAPE = (14, 4, 6)
NETWORK = Network(
    "small",
    "a small network",
    (
        Layer("input", "InputLayer", (), (14, 4, 3)),
        Layer("a_small_one", "Conv2D", ("input",), SHAPE, {"filters": 6, "kernel_size": 1}),
        Layer("relu", "Activation", ("a_small_one",), SHAPE, {"activation": "relu"}),
        Layer("pool", "GlobalAveragePooling2D", ("relu",), (1, 1, 6)),
        Layer("classes", "Dense", ("pool",), (1, 1, 3), {"units": 3, "activation": "softmax"}),
    ),
    Preprocess(14, 14, order="rgb"),
    Classify(3),
)
CUT = NETWORK.cut("a_small_one")
MASKED_CUT = Network(  # the same tensor, of which the back-end is told what is there
    "masked",
    "a small network with a mask",
    (
        *NETWORK.layers[:2],
        Layer("mask", MASKED, ("a_small_one",), (*SHAPE[:2], 2 * SHAPE[2])),
        Layer("pool", "GlobalAveragePooling2D", ("mask",), (1, 1, 2 * SHAPE[2])),
        Layer("classes", "Dense", ("pool",), (1, 1, 3), {"units": 3, "activation": "softmax"}),
    ),
    NETWORK.preprocess,
    NETWORK.head,
).cut("a_small_one")
GRID = PacketGrid(SHAPE, 7)  # 12 packets of 28 elements
TENSOR = 5
UNIFORM8 = QUANTISERS["uniform8"]
# those whose packets are parts of the tensor; test_streams.py has the others
OF_PARTS = {name: one for name, one in QUANTISERS.items() if one.needs is Needs.NOTHING}
SIZES: Indices = np.full(GRID.count, GRID.size)  # of the packets with uniform8
ALONE = room_for(8, packets_a_symbol=1)
FEC_CODES = [code for code in FEC.values() if code.id in CODES]  # those whose library is installed
ZERO: Concealment = Zero(CUT, {})


def features(rng: np.random.Generator, shape: tuple[int, int, int] = SHAPE) -> Floats:
    """Draw a tensor without a zero in it, so that what is filled can be told from what has arrived."""
    return rng.uniform(0.5, 9, shape).astype(np.float32)


def planned(
    policy: str,
    importance: npt.ArrayLike | None = None,
    *,
    sizes: Indices = SIZES,
    code: ErasureCode = ZFEC,
    room: Room = ALONE,
) -> Plan:
    """Return what a policy plans; of packets without a given importance, the last matters most."""
    scores = np.arange(len(sizes)) if importance is None else importance
    return read_policy(policy, code).plan(np.asarray(scores, np.float32), sizes, UNKNOWN_LINK, room)


def alone(packets: npt.ArrayLike, code: ErasureCode, length: int = GRID.size + 3) -> Stripe:
    """Return a stripe of given packets, each alone in its data symbol."""
    members = np.asarray(packets, np.intp)
    return Stripe(members, Packing(np.arange(len(members) + 1), length), code)


def odd_plan(rng: np.random.Generator, sizes: Indices = SIZES) -> Plan:
    """Draw a plan of the general form: some packets dropped, the others in groups and stripes of any shape and code."""
    packets = rng.permutation(len(sizes))
    kept = int(rng.integers(1, len(sizes) + 1))
    groups, stripes = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    shortest = -(-int(entry_sizes(sizes).max()) // 2)
    lengths = 2 * (shortest + rng.integers(0, 2 * shortest, stripes))  # even, as leopard wants them
    cuts = np.sort(rng.integers(0, kept + 1, groups * stripes - 1))
    parts = iter(np.split(packets[:kept], cuts))
    made = []
    for _ in range(groups):
        most = [int(rng.integers(1, 4)) for _ in range(stripes)]
        rng.shuffle(lengths)
        members = [_filled(rng, next(parts), sizes, int(length), m) for length, m in zip(lengths, most, strict=True)]
        n = max(len(packing.starts) - 1 for _, packing in members)
        n += 0 if rng.random() < 0.4 else int(rng.integers(0, n + 3))
        made.append(Group(n, tuple(Stripe(*member, _code(rng, member[1], n)) for member in members)))
    if sum(group.n for group in made) > MAX_SENT_PER_PACKET * len(sizes):  # of very few packets: no cloud takes them
        return odd_plan(rng, sizes)
    return Plan(len(sizes), np.sort(packets[kept:]), tuple(made))


def _filled(
    rng: np.random.Generator, packets: Indices, sizes: Indices, length: int, most: int
) -> tuple[Indices, Packing]:
    """Pack packets; of none, there is one symbol, and after others there may be an empty one."""
    starts = pack(entry_sizes(sizes[packets]), length, most)
    if len(starts) == 1 or rng.random() < 0.2:
        starts = np.append(starts, starts[-1])
    return packets, Packing(starts, length)


def _code(rng: np.random.Generator, packing: Packing, n: int) -> ErasureCode:
    bare = n == len(packing.starts) - 1 and rng.random() < 0.7
    return BARE if bare else FEC_CODES[int(rng.integers(len(FEC_CODES)))]


def coded(seed: int = 0, quantiser: Quantiser = UNIFORM8) -> Coded:
    """Code the features that `seed` draws."""
    return quantiser.encode(features(np.random.default_rng(seed)), GRID)


def encoded(plan: Plan, seed: int = 0, quantiser: Quantiser = UNIFORM8) -> EncodedTensor:
    """Encode the features that `seed` draws."""
    return encode_tensor(coded(seed, quantiser), quantiser, plan)


def bodies_of(plan: Plan, seed: int = 0, tensor: int = TENSOR) -> list[bytes]:
    """Return the bodies of the tensor's datagrams in send order: what is to be sealed."""
    return [row.tobytes() for row in encoded(plan, seed).bodies(tensor)]


def matrix_of(bodies: list[bytes]) -> Bytes:
    """Return bodies of one length as a (count, length) matrix."""
    return np.stack([np.frombuffer(body, np.uint8) for body in bodies])


def headers_of(bodies: list[bytes]) -> npt.NDArray[np.void]:
    """Read the (count,) SYMBOL_HEADER records of bodies."""
    return read_headers(matrix_of(bodies))


def with_header(body: bytes, **changes: int) -> bytes:
    """Return a body with other values in fields of its header, or of its first stripe: k, length, code.

    Another `sent` is another `unasked`, too, if that is not given: a tensor without a reserve stays one.
    """
    if "sent" in changes:
        changes = {"unasked": changes["sent"]} | changes
    changed = np.frombuffer(body, np.uint8).copy()
    fixed, stripe = changed[:FIXED_BYTES].view(SYMBOL_HEADER), changed[FIXED_BYTES:][: STRIPE.itemsize].view(STRIPE)
    for field, value in changes.items():
        (fixed if field in SYMBOL_HEADER.fields else stripe)[field] = value
    return changed.tobytes()
