"""Feature packets: r rows of one channel of the feature tensor (the paper, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.matrices import transposed

DEFAULT_ROWS = 7
MAX_PACKETS = 65_536  # a packet's place is a u16 on the wire


@dataclass(frozen=True)
class PacketGrid:
    """How a feature tensor of shape (height, width, channels) is cut into packets of `rows` rows of one channel.

    Packet p holds rows g*rows .. (g+1)*rows - 1 of channel c, with p = c * groups + g: its *place*.
    """

    shape: tuple[int, int, int]
    rows: int = DEFAULT_ROWS

    def __post_init__(self) -> None:
        """Refuse, with UsageError, rows that do not divide the height, or more packets than a place can name."""
        height, width, _ = self.shape
        if not 1 <= self.rows <= 255 or height % self.rows:
            fitting = [r for r in range(1, min(height, 255) + 1) if height % r == 0]
            raise UsageError(
                f"{self.rows} rows a packet do not divide the {height} rows of a {height}x{width} channel: "
                f"use --rows with one of {', '.join(map(str, fitting))}"
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
        """Elements a packet: bytes, with an 8-bit quantiser."""
        return self.rows * self.shape[1]

    @property
    def tiles(self) -> int:
        """Tiles a packet is long: squares of its rows where they fit the width, else the packet whole."""
        width = self.shape[1]
        return width // self.rows if width % self.rows == 0 else 1

    def split(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cut a (height, width, channels) tensor into a (count, size) matrix, one packet a row, any dtype."""
        if tensor.shape != self.shape:
            raise ValueError(f"tensor of shape {tensor.shape}, expected {self.shape}")
        by_channel = transposed(tensor.reshape(-1, self.shape[2]))  # (56, 56, 256) -> (3136, 256) -> (256, 3136)
        return by_channel.reshape(self.count, self.size)  # -> (2048 packets, 392)

    def join(self, packets: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Put a (count, size) matrix of packets back together as a (height, width, channels) tensor."""
        if packets.shape != (self.count, self.size):
            raise ValueError(f"packets of shape {packets.shape}, expected {(self.count, self.size)}")
        by_channel = packets.reshape(self.shape[2], -1)  # (2048, 392) -> (256, 3136)
        return transposed(by_channel).reshape(self.shape)  # -> (3136, 256) -> (56, 56, 256)
