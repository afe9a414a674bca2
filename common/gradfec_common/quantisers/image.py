"""The picture itself, as an image file: for the cut at the network's input, where an edge runs nothing.

The file is cut into as many packets as the tensor has, so they are streams. A packet's place is its number. The first
one matters most: it has the header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from gradfec_common.networks import Cut
from gradfec_common.networks.pixels import Image, normalise, picture_of
from gradfec_common.packets import PacketGrid, Packets, select_packets
from gradfec_common.quantisers.avif import whole_avif, without_boxes
from gradfec_common.quantisers.image_files import progressive_jpeg, scan_ends, whole_jpeg, whole_webp
from gradfec_common.quantisers.quantiser import Coded, Decoded, Needs

Floats = npt.NDArray[np.float32]
# From a file's beginning, and height and width, to what of it a decoder may see.
Decodable = Callable[[bytes, tuple[int, int]], bytes | None]

DEFAULT_QUALITY = 75
AS_IT_IS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


@dataclass(frozen=True)
class Format:
    """A kind of image file: its names for the user and OpenCV, OpenCV's settings for it, and its untrusted reader.

    `travels` gives what of a file is sent, and `finest` is the highest quality that OpenCV is asked for.
    """

    id: int
    name: str
    suffix: str
    quality: int
    settings: tuple[int, ...]
    needs: Needs
    decodable: Decodable
    travels: Callable[[bytes], bytes] = bytes
    finest: int = 100


@dataclass(frozen=True)
class ImageCodec:
    """The pixels as an image file of some quality, 1 to 100."""

    format: Format
    quality: int = DEFAULT_QUALITY
    parameter_bytes = 0

    @property
    def id(self) -> int:
        """The number on the wire."""
        return self.format.id

    @property
    def name(self) -> str:
        """The name: webp:75."""
        return f"{self.format.name}:{self.quality}"

    @property
    def needs(self) -> Needs:
        """Which others a packet needs to be of use."""
        return self.format.needs

    def with_quality(self, quality: int) -> ImageCodec:
        """Return it with another quality."""
        return replace(self, quality=quality)

    def fits(self, cut: Cut) -> bool:
        """Return whether the tensors are pictures."""
        return cut.pixels is not None

    def sizes(self, grid: PacketGrid) -> None:
        """Return None: the size of a file depends on the picture."""

    def encode(self, tensor: Floats, grid: PacketGrid) -> Coded:
        """Code a network's input (height, width, 3); ValueError for a NaN or an infinity, or for another tensor."""
        if grid.pixels is None:
            raise ValueError(f"{self.name} codes pictures, and the tensor is none")
        if not np.isfinite(tensor).all():
            raise ValueError("the picture is not finite")
        bgr = picture_of(tensor, grid.pixels)[..., ::-1]
        quality = min(self.quality, self.format.finest)
        done, written = cv2.imencode(self.format.suffix, bgr, [self.format.quality, quality, *self.format.settings])
        assert done, "a picture that OpenCV cannot code"  # noqa: S101
        data = self.format.travels(written.tobytes())
        file = np.zeros(max(len(data), grid.count), np.uint8)  # a byte for each packet; readers ignore zeros at the end
        file[: len(data)] = np.frombuffer(data, np.uint8)
        ends = scan_ends(data, grid.pixels.size) if self.needs is Needs.EARLIER else []
        cuts, importance = cut_at(ends[:-1], len(file), grid.count)
        return Coded(Packets(np.arange(grid.count), cuts, file), b"", importance)

    def are_valid(self, parameters: bytes) -> bool:
        """Return whether there are none."""
        return not parameters

    def decode(self, packets: Packets, parameters: bytes, grid: PacketGrid) -> Decoded:
        """Decode packets at distinct places of the grid; where too few begin the file, the tensor is 0."""
        there = np.zeros(grid.count, bool)
        picture = None if grid.pixels is None else self._picture(beginning(packets), grid.pixels.size)
        there[packets.places] = picture is not None or len(packets.places) < grid.count
        if picture is None or grid.pixels is None or picture.shape != grid.shape:
            return Decoded(np.zeros(grid.shape, np.float32), there)
        return Decoded(normalise(picture, grid.pixels), there)

    def _picture(self, untrusted: bytes, size: tuple[int, int]) -> Image | None:
        """Return the RGB picture (height, width, 3) in a file's beginning, if there is one."""
        file = self.format.decodable(untrusted, size)
        if file is None:
            return None
        try:
            bgr = cv2.imdecode(np.frombuffer(file, np.uint8), AS_IT_IS)
        except cv2.error:
            return None
        if bgr is None or bgr.shape != (*size, 3) or bgr.dtype != np.uint8:
            return None
        return np.asarray(bgr[..., ::-1], np.uint8)


def cut_at(ends: list[int], size: int, count: int) -> tuple[npt.NDArray[np.intp], Floats | None]:
    """Cut a file of `size` bytes into `count` pieces as even as can be, with cuts where its parts end.

    Return the offsets (count + 1,) and the importance (count,), a level for each part; none if there are no parts.
    """
    even = np.arange(count + 1) * size // count
    nearest, first = np.unique(np.rint(np.array(ends, np.float64) * count / size).astype(np.intp), return_index=True)
    inside = (nearest > 0) & (nearest < count)
    parts = np.array(ends, np.intp)[first[inside]]
    cuts = even.copy()
    cuts[nearest[inside]] = parts
    if not len(parts) or (np.diff(cuts) < 1).any():
        return even, None
    return cuts, (len(parts) - np.searchsorted(parts, cuts[:-1], side="right")).astype(np.float32)


def beginning(packets: Packets) -> bytes:
    """Return the bytes of the packets before the first one that is missing."""
    order = np.argsort(packets.places)
    missing = np.flatnonzero(packets.places[order] != np.arange(len(order)))
    first = order[: missing[0]] if len(missing) else order
    return select_packets(packets, first).data.tobytes()


JPEG_QUALITY, OPTIMISED = cv2.IMWRITE_JPEG_QUALITY, (cv2.IMWRITE_JPEG_OPTIMIZE, 1)
WEBP = Format(34, "webp", ".webp", cv2.IMWRITE_WEBP_QUALITY, (), Needs.ALL, whole_webp)
AVIF = Format(
    36, "avif", ".avif", cv2.IMWRITE_AVIF_QUALITY, (cv2.IMWRITE_AVIF_SPEED, 9), Needs.ALL, whole_avif, without_boxes,
    finest=99,  # 100 is lossless, and another profile
)  # fmt: skip
FORMATS = (
    Format(33, "jpeg", ".jpg", JPEG_QUALITY, OPTIMISED, Needs.ALL, whole_jpeg),
    WEBP,
    AVIF,
    Format(35, "progressive", ".jpg", JPEG_QUALITY, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), Needs.EARLIER, progressive_jpeg),
)
