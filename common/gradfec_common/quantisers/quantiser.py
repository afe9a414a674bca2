"""The interface of a quantiser: from float32 features to the bytes of packets, and back."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid, Packets

Floats = npt.NDArray[np.float32]
MAX_PARAMETER_BYTES = 64  # they are in every datagram


class Needs(Enum):
    """Which other packets one needs to be of use.

    If it needs some, the packets are a *stream* cut into pieces, not parts of the tensor. The quantiser then fills the
    gaps itself, and a packet matters more than all after it.
    """

    NOTHING = "nothing"
    EARLIER = "earlier"  # all before it
    ALL = "all"


class Coded(NamedTuple):
    """A tensor as packets, all of them in the order of their places, and the parameters that decoding needs.

    A packet without bytes is not sent. At least one packet has some. `importance` (count,) is that of the packets if
    the quantiser knows it, and replaces an estimator's; packets of the same importance belong together.
    """

    packets: Packets
    parameters: bytes
    importance: Floats | None = None


class Decoded(NamedTuple):
    """A tensor (H, W, C) float32, and which of its packets are there (count,); the elements of others are finite.

    `step` is the distance between levels, for a decoder that was trained with several; 0 if there is none.
    """

    tensor: Floats
    there: npt.NDArray[np.bool_]
    step: float = 0.0


class Quantiser(Protocol):
    """A way to code a tensor. `id` names it on the wire, 1 to 255, `name` everywhere else."""

    @property
    def id(self) -> int:
        """The number on the wire."""

    @property
    def name(self) -> str:
        """The name, for people."""

    @property
    def parameter_bytes(self) -> int:
        """How many bytes of parameters there are: the same for every tensor, at most MAX_PARAMETER_BYTES."""

    @property
    def needs(self) -> Needs:
        """Which others a packet needs to be of use."""

    def fits(self, cut: Cut) -> bool:
        """Return whether the tensors of a cut may be coded like this."""

    def sizes(self, grid: PacketGrid) -> npt.NDArray[np.intp] | None:
        """Return the bytes (count,) of each coded packet; None if they depend on the tensor."""

    def encode(self, tensor: Floats, grid: PacketGrid) -> Coded:
        """Code a finite (H, W, C) tensor; ValueError if it is not finite, which is a fault of the front-end."""

    def are_valid(self, parameters: bytes) -> bool:
        """Return whether `encode` could have made these untrusted parameters."""

    def decode(self, packets: Packets, parameters: bytes, grid: PacketGrid) -> Decoded:
        """Decode packets at distinct places of the grid, with valid parameters; never raises.

        A packet with bytes that `encode` would not write is not there, as far as they tell. Of a stream, only the whole
        can be judged: all packets that came are there, unless all came and are nonsense.
        """


@runtime_checkable
class Adjustable(Protocol):
    """A quantiser with a quality, which the user writes after its name: webp:75. The other end need not know it."""

    def with_quality(self, quality: int) -> Quantiser:
        """Return it with a quality of 1 to 100."""
