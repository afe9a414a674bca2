"""Packets: r rows of one channel of the tensor (the paper, section 2.2), and their coded bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.matrices import transposed
from gradfec_common.networks import Preprocess

DEFAULT_ROWS = 7
USUAL_SIZE = 392  # elements: of 7 rows of 56
PIECES = 32  # row groups of a picture
MAX_PACKETS = 65_280  # fits a u16; 255 groups of 256 datagrams carry as many, one in each


def usual_rows(shape: tuple[int, int, int], *, pixels: bool = False) -> int:
    """Return the default rows of a packet: 7, or if that does not divide the height, the divisor that fits best.

    A packet then has about as many elements as the paper's, and a picture about as many pieces as one of 224 rows.
    """
    height, width, _ = shape
    if height % DEFAULT_ROWS == 0 and (not pixels or height == PIECES * DEFAULT_ROWS):
        return DEFAULT_ROWS
    best = height / PIECES if pixels else USUAL_SIZE / width
    fitting = [rows for rows in range(1, min(height, 255) + 1) if height % rows == 0]
    return min(fitting, key=lambda rows: abs(math.log(rows / best)))


@dataclass(frozen=True)
class PacketGrid:
    """How a feature tensor of shape (height, width, channels) is cut into packets of `rows` rows of one channel.

    Packet p holds rows g*rows .. (g+1)*rows - 1 of channel c, with p = c * groups + g: its *place*. A quantiser with
    streams cuts those into as many packets, and a packet's place is its number. `pixels` is how pixels became the
    tensor, if it is a network's input.
    """

    shape: tuple[int, int, int]
    rows: int = DEFAULT_ROWS
    pixels: Preprocess | None = None

    def __post_init__(self) -> None:
        """Refuse, with UsageError, rows that do not divide the height, or more packets than a place can name."""
        height, width, _ = self.shape
        if not 1 <= self.rows <= 255 or height % self.rows:
            fitting = [r for r in range(1, min(height, 255) + 1) if height % r == 0]
            choice = f"with one of {', '.join(map(str, fitting))}" if len(fitting) > 1 else "1"
            raise UsageError(
                f"{self.rows} rows a packet do not divide the {height} rows of a {height}x{width} channel: "
                f"use --rows {choice}"
            )
        if self.count > MAX_PACKETS:
            raise UsageError(
                f"{self.rows} rows a packet give {self.count} packets, more than {MAX_PACKETS}: use larger --rows"
            )

    @property
    def groups(self) -> int:
        """Row groups a channel."""
        return self.shape[0] // self.rows

    @property
    def count(self) -> int:
        """Packets a tensor."""
        return self.groups * self.shape[2]

    @property
    def size(self) -> int:
        """Elements a packet; with 8 bits an element, also bytes."""
        return self.rows * self.shape[1]

    @property
    def tiles(self) -> int:
        """Tiles a packet is long: squares of its rows if they fit the width, otherwise the whole packet."""
        width = self.shape[1]
        return width // self.rows if width % self.rows == 0 else 1

    def split(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cut a (H, W, C) tensor of any dtype into (count, size), one packet a row; ValueError for another shape."""
        if tensor.shape != self.shape:
            raise ValueError(f"tensor of shape {tensor.shape}, expected {self.shape}")
        by_channel = transposed(tensor.reshape(-1, self.shape[2]))  # (56, 56, 256) -> (3136, 256) -> (256, 3136)
        return by_channel.reshape(self.count, self.size)  # -> (2048 packets, 392)

    def join(self, packets: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Put packets (count, size) back together as a tensor (H, W, C); ValueError for another shape."""
        if packets.shape != (self.count, self.size):
            raise ValueError(f"packets of shape {packets.shape}, expected {(self.count, self.size)}")
        by_channel = packets.reshape(self.shape[2], -1)  # (2048, 392) -> (256, 3136)
        return transposed(by_channel).reshape(self.shape)  # -> (3136, 256) -> (56, 56, 256)


class Packets(NamedTuple):
    """Coded packets of any lengths: packet i belongs at places[i] and is data[offsets[i]:offsets[i + 1]].

    `places` (m,) and `offsets` (m + 1,) are integers, `data` (bytes,) uint8.
    """

    places: npt.NDArray[np.intp]
    offsets: npt.NDArray[np.intp]
    data: npt.NDArray[np.uint8]

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """The bytes (m,) of each packet."""
        return np.diff(self.offsets)

    @property
    def common_size(self) -> int | None:
        """The bytes of a packet if all have the same size, otherwise None."""
        sizes = self.sizes
        return int(sizes[0]) if len(sizes) and (sizes == sizes[0]).all() else None

    def matrix(self, size: int) -> npt.NDArray[np.uint8]:
        """Return the packets (m, size), all of which have `size` bytes."""
        return self.data.reshape(len(self.places), size)


def alike_packets(places: npt.NDArray[np.intp], matrix: npt.NDArray[np.uint8]) -> Packets:
    """Return packets of one size, the rows of (m, size), as Packets; nothing is copied."""
    count, size = matrix.shape
    return Packets(places, np.arange(count + 1) * size, matrix.reshape(-1))


def select_packets(packets: Packets, chosen: npt.NDArray[np.intp]) -> Packets:
    """Return some of the packets, by their numbers (n,)."""
    size = packets.common_size
    if size is not None:
        return alike_packets(packets.places[chosen], packets.matrix(size)[chosen])
    sizes = packets.sizes[chosen]
    data = packets.data[spans(packets.offsets[:-1][chosen], sizes)]
    return Packets(packets.places[chosen], np.concatenate([[0], np.cumsum(sizes)]), data)


def join_packets(parts: Sequence[Packets]) -> Packets:
    """Put packets one after the other."""
    if len(parts) == 1:
        return parts[0]
    places, sizes, data = (np.concatenate(of) for of in zip(*((p.places, p.sizes, p.data) for p in parts), strict=True))
    return Packets(places, np.concatenate([[0], np.cumsum(sizes)]), data)


def spans(starts: npt.NDArray[np.intp], sizes: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the numbers starts[i] .. starts[i] + sizes[i] - 1 of each i, one after the other."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + sizes, sizes)
