"""Pictures of a tensor's packets, as PNGs in data URIs: a tile for each channel, and in it a strip for each packet."""

from __future__ import annotations

import base64
import io
import math
import zlib
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradfec_common.cells import Cell
from gradfec_web.view import Picture
from gradfec_web.words import label, percent

TILE = 32  # pixels, roughly: the browser scales the picture
GAP = 2
NO_TILE = 255  # the palette's last colour: transparent
RECEDES = 6  # how many times less opaque unselected packets are
VEIL = 170  # opacity of the darkest band over a photograph, of 255

COLOURS: dict[Cell, str] = {  # they differ in hue and in lightness, on white and on black
    Cell.SENT: "#7fb2f0",
    Cell.PROTECTED: "#3a78d8",
    Cell.RECOVERED: "#10b08c",
    Cell.LOST: "#f59b23",
    Cell.UNRECOVERED: "#d9345f",
    Cell.DROPPED: "#8a93a333",
    Cell.ABSENT: "#8a93a399",
}
# Of boxes, by label; white letters are read on them, and they are seen on most photographs.
BOX_COLOURS = ("#1f5fc4", "#0b7a5f", "#a85a00", "#7a3fc4", "#c2264d", "#10708f", "#7a6a10", "#983f66", "#55761a")
WIDE, HIGH = 480, 320  # the place for a photograph with boxes, in their unit: about a pixel
LINE, LETTER = 18, 7  # of their text, in the same unit

Palette = NDArray[np.uint8]  # (256, 4), RGBA
CELLS_PALETTE: Palette = np.zeros((256, 4), np.uint8)
for _cell, _colour in COLOURS.items():
    CELLS_PALETTE[_cell] = [*bytes.fromhex(_colour[1:].ljust(8, "f"))]
# matplotlib's colour map magma, in nine steps
MAGMA = ["#000004", "#1c1044", "#4f127b", "#812581", "#b5367a", "#e55064", "#fb8761", "#fec287", "#fcfdbf"]
_steps = np.array([[*bytes.fromhex(colour[1:])] for colour in MAGMA])  # (9, 3)
IMPORTANCE_PALETTE: Palette = np.full((256, 4), 255, np.uint8)
for _channel in range(3):
    IMPORTANCE_PALETTE[:, _channel] = np.interp(np.arange(256), np.linspace(0, 255, len(MAGMA)), _steps[:, _channel])
SCALE = "linear-gradient(90deg, {})".format(  # of importance, for the style sheet
    ", ".join(f"rgb({red} {green} {blue})" for red, green, blue, _ in IMPORTANCE_PALETTE[:NO_TILE:32].tolist())
)
IMPORTANCE_PALETTE[NO_TILE, 3] = 0


def cells_of(picture: Picture) -> NDArray[np.uint8]:
    """Return what became of each packet, (channels, groups) of Cell."""
    return _grid(picture.cells, picture)


def importance_of(picture: Picture) -> NDArray[np.uint8]:
    """Return how much each packet matters, (channels, groups), 255 for the most important."""
    return _grid(picture.importance, picture)


def _grid(text: str, picture: Picture) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(picture.channels, picture.groups)


def draw_cells(picture: Picture, only: Cell | None = None) -> str:
    """Draw what became of each packet; with `only`, fade the others."""
    palette = CELLS_PALETTE
    if only is not None:
        palette = palette.copy()
        palette[:, 3] //= RECEDES
        palette[only, 3] = 255
    return _png(tiles(cells_of(picture)), palette)


def draw_importance(picture: Picture) -> str:
    """Draw how much each packet matters, in the same layout."""
    return _png(tiles(np.minimum(importance_of(picture), NO_TILE - 1)), IMPORTANCE_PALETTE)


def draw_veil(picture: Picture) -> str:
    """Draw bands, one for each row group, that darken a photograph where the packets matter little."""
    bands = band_importance(picture)
    veil = np.zeros((picture.groups, 1, 4), np.uint8)
    veil[:, 0, 3] = np.round(VEIL * (1 - bands))
    return _data_uri(Image.fromarray(veil, "RGBA"))


def draw_boxes(picture: Picture, ratio: float) -> str:
    """Draw a picture's boxes as an SVG of that width to height, and on top their labels and scores, the best last."""
    width = min(WIDE, HIGH * ratio)
    size = width, width / ratio
    found = [_Placed(name, score, place, size) for name, score, place in reversed(picture.boxes or [])]
    drawn = "".join([one.frame() for one in found] + [one.caption(width) for one in found])
    view = f'viewBox="0 0 {size[0]:.2f} {size[1]:.2f}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {view} preserveAspectRatio="none">{drawn}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


class _Placed:
    """A box in a drawing of a `size` (width, height)."""

    def __init__(self, name: str, score: float, place: Sequence[float], size: tuple[float, float]) -> None:
        edges = (share * side for share, side in zip(place, size * 2, strict=True))
        self.left, self.top, self.right, self.bottom = edges
        self.text = f"{label(name)} {percent(score, 0)}"
        self.colour = BOX_COLOURS[zlib.crc32(name.encode()) % len(BOX_COLOURS)]

    def frame(self) -> str:
        return (
            f'<rect x="{self.left:.1f}" y="{self.top:.1f}" width="{self.right - self.left:.1f}"'
            f' height="{self.bottom - self.top:.1f}" rx="3" fill="none" stroke="{self.colour}" stroke-width="3"/>'
        )

    def caption(self, most: float) -> str:
        width = min(LETTER * len(self.text) + LINE / 2, most)  # about what it needs: the browser fits the letters in
        x = min(self.left, most - width)
        y = max(self.top - LINE, 0)  # above the box, or in it at the picture's upper edge
        return (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{LINE}" rx="3" fill="{self.colour}"/>'
            f'<text x="{x + LINE / 4:.1f}" y="{y + 0.74 * LINE:.1f}" textLength="{width - LINE / 2:.1f}"'
            f' lengthAdjust="spacingAndGlyphs" font-family="system-ui, sans-serif" font-size="{0.74 * LINE:.1f}"'
            f' font-weight="600" fill="#fff">{escape(self.text)}</text>'
        )


def band_importance(picture: Picture) -> NDArray[np.float64]:
    """Return the importance of each row group over all channels, (groups,) from 0 to 1; 1 if all are equal."""
    bands = importance_of(picture).mean(axis=0)
    return np.asarray(1 + (bands - bands.max()) / (np.ptp(bands) or 1))


def tiles(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay out (channels, groups) as a square of square tiles, with NO_TILE between them."""
    channels, groups = values.shape
    columns = math.isqrt(channels - 1) + 1
    rows = -(-channels // columns)
    strip = max(1, TILE // groups)  # pixels
    side = strip * groups
    canvas = np.full((rows * columns, side + GAP, side + GAP), NO_TILE, np.uint8)
    canvas[:channels, :side, :side] = values.repeat(strip, axis=1)[:, :, np.newaxis]
    # (tiles, height, width) -> (rows, height, columns, width) -> the whole picture
    laid = canvas.reshape(rows, columns, side + GAP, side + GAP).swapaxes(1, 2).reshape(rows * (side + GAP), -1)
    return laid[:-GAP, :-GAP]


def _png(indices: NDArray[np.uint8], palette: Palette) -> str:
    image = Image.fromarray(indices)
    image.putpalette(palette[:, :3].tobytes())
    image.info["transparency"] = palette[:, 3].tobytes()
    return _data_uri(image)


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
