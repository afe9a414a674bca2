"""Image files from anybody with a key: whatever bytes come, there is the picture of the right size, or none."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from tests.common.small_tensors import OF_PARTS
from tests.fuzz.reader import Reader

from gradfec_common.heads import Classify
from gradfec_common.networks import Layer, Network, Preprocess
from gradfec_common.networks.pixels import normalise
from gradfec_common.packets import PacketGrid, Packets
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.quantisers.avif import whole_avif
from gradfec_host.quiet import quiet_opencv

SIDE = 32
LAYERS = (
    Layer("picture", "InputLayer", (), (SIDE, SIDE, 3)),
    Layer("pool", "GlobalAveragePooling2D", ("picture",), (1, 1, 3)),
    Layer("classes", "Dense", ("pool",), (1, 1, 3), {"units": 3}),
)
PREPROCESS = Preprocess(SIDE, SIDE, "rgb", (127.5,) * 3, (1 / 127.5,) * 3)
CUT = Network("small", "small", LAYERS, PREPROCESS, Classify(3)).cut("picture")
GRID = PacketGrid(CUT.shape, 8, CUT.pixels)
STREAMS = sorted({*QUANTISERS} - {*OF_PARTS})

quiet_opencv()


@lru_cache
def sent(name: str) -> bytes:
    """Return the file of a picture, as it travels."""
    image = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(image, (5, 5), 0), np.uint8)
    return QUANTISERS[name].encode(normalise(blurred, PREPROCESS), GRID).packets.data.tobytes()


def target(data: bytes) -> None:
    """Decode a true file with changes, or any bytes, in as many packets as there are, or in fewer."""
    reader = Reader(data)
    name = STREAMS[reader.below(len(STREAMS))]
    file = reader.edited(sent(name)) if reader.below(4) else reader.piece()
    count = GRID.count - reader.below(2)
    ends = np.arange(count + 1) * len(file) // count
    decoded = QUANTISERS[name].decode(Packets(np.arange(count), ends, np.frombuffer(file, np.uint8)), b"", GRID)
    assert decoded.tensor.shape == CUT.shape and decoded.tensor.dtype == np.float32
    assert decoded.there.shape == (GRID.count,)
    assert np.isfinite(decoded.tensor).all(), "pixels that are not finite"
    if file == sent(name) and count == GRID.count:
        assert decoded.there.all() and decoded.tensor.any()
    made = whole_avif(file, (SIDE, SIDE))
    if made is not None:
        assert made.startswith(b"\0\0\0\x1cftypavif"), "the boxes are ours, whatever came"
