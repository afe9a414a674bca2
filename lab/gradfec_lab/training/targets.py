"""The training targets, on disk: each image's features and their oracle importance.

They are computed once, in an order that is as good as random; an interrupted computation resumes.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import named_cut
from gradfec_common.packets import PacketGrid
from gradfec_host.weights import WeightStore
from gradfec_lab.photographs import Inputs, Photographs

TODO, DONE, UNUSABLE = 0, 1, 2
SETTINGS = "settings.json"
FLUSH_EVERY = 32  # batches; an interruption costs no more
SENSITIVITY_IMAGES = 512  # each is a mean over 3,136 positions; more images would only take space
HELD_OUT = 20  # one image in this many, by the hash of its name, is held out

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """The settings of a cache of targets; other settings need another cache."""

    images: str  # digest of the photographs, in order
    count: int
    split: str
    rows: int
    score: str
    elements: bool  # also store the whole maps, for the paper's recipe


class Targets:
    """Arrays with one entry for each image, in the order of `names`.

    `state` (N,) u8; `energy`, `power` and `importance` (N, groups, tiles, C) float16: sums over tiles of `rows` x
    `rows` elements of relu(chi), of its square, and of the oracle's map; `saliency` (N, groups, tiles) float32: the
    share of each tile in the squared gradient; `sensitivity` (first N, 2, C, C) float16: see `gradient_products`, only
    for the first images, as they are large. `elements` (N, H, W, C) float16: the oracle's whole map, if asked for.
    """

    def __init__(self, folder: Path, photographs: Photographs, names: list[str], settings: Settings) -> None:
        """Open or create the cache in `folder`; UsageError if it was made with other settings."""
        self.folder, self.photographs, self.names, self.settings = folder, photographs, names, settings
        self.grid = PacketGrid(named_cut(settings.split).shape, settings.rows)
        shape = (settings.count, self.grid.groups, self.grid.tiles, self.grid.shape[2])
        folder.mkdir(parents=True, exist_ok=True)
        self._check()
        self.state = self._array("state", (settings.count,), np.uint8)
        self.energy = self._array("energy", shape, np.float16)
        self.power = self._array("power", shape, np.float16)
        self.importance = self._array("importance", shape, np.float16)
        self.saliency = self._array("saliency", shape[:3], np.float32)
        sample = min(settings.count, SENSITIVITY_IMAGES)
        self.sensitivity = self._array("sensitivity", (sample, 2, shape[3], shape[3]), np.float16)
        self.elements = (
            self._array("elements", (settings.count, *self.grid.shape), np.float16) if settings.elements else None
        )

    @property
    def identity(self) -> str:
        """The settings as JSON, which identify these targets."""
        return json.dumps(asdict(self.settings), sort_keys=True)

    @property
    def unusable(self) -> list[str]:
        """The names of the images that could not be used."""
        return [self.names[i] for i in np.flatnonzero(self.state == UNUSABLE)]

    @property
    def fit_indices(self) -> npt.NDArray[np.intp]:
        """The indices of the images to learn from."""
        return np.flatnonzero((self.state == DONE) & ~self._held_out())

    @property
    def held_out_indices(self) -> npt.NDArray[np.intp]:
        """The indices of the held-out images."""
        return np.flatnonzero((self.state == DONE) & self._held_out())

    def _held_out(self) -> npt.NDArray[np.bool_]:
        return np.array([is_held_out(name) for name in self.names])

    def inputs(self, where: npt.NDArray[np.intp]) -> Inputs:
        """Read the images of these indices (N,) again: (N, side, side, 3) RGB; GradfecError if one has disappeared."""
        images = [self.photographs.read(self.names[i]) for i in where]
        if any(image is None for image in images):
            gone = next(self.names[i] for i, image in zip(where, images, strict=True) if image is None)
            raise GradfecError(f"{self.photographs.skipped[gone]}; it could be read when the targets were computed")
        return np.stack([image for image in images if image is not None])

    def compute(self, weights: WeightStore, advance: Callable[[int], None]) -> None:
        """Compute what is missing; `advance` gets the number of finished images."""
        todo = [self.names[i] for i in np.flatnonzero(self.state == TODO)]
        advance(self.settings.count - len(todo))
        if not todo:
            return
        from gradfec_cli.gradcam import BATCH, GradCam
        from gradfec_edge.frontend.keras_runtime import KerasFrontEnd

        cut = named_cut(self.settings.split)
        front_end, oracle = KerasFrontEnd(cut, weights), GradCam(cut, weights, self.settings.score)
        index = {name: i for i, name in enumerate(self.names)}
        for number, (names, images) in enumerate(self.photographs.batches(todo, BATCH), 1):
            where = [index[name] for name in names]
            chi = np.maximum(front_end(images).chi, 0)
            attribution = oracle(chi)
            self.energy[where] = tile_sums(chi, self.grid)
            self.power[where] = tile_sums(chi**2, self.grid)
            self.importance[where] = tile_sums(attribution.elements, self.grid)
            self.saliency[where] = gradient_shares(attribution.gradient, self.grid)
            early = [i for i in where if i < len(self.sensitivity)]
            if early:
                self.sensitivity[early] = gradient_products(attribution.gradient[: len(early)], self.grid)
            if self.elements is not None:
                self.elements[where] = attribution.elements
            self.state[where] = DONE
            advance(len(names))
            if number % FLUSH_EVERY == 0:
                self._flush()
        self.state[[index[name] for name in self.photographs.skipped]] = UNUSABLE
        advance(len(self.photographs.skipped))
        self._flush()

    def _check(self) -> None:
        path = self.folder / SETTINGS
        ours = asdict(self.settings)
        if not path.exists():
            path.write_text(json.dumps(ours, indent=1))
            return
        try:
            theirs: dict[str, Any] = dict(json.loads(path.read_text()))
        except (ValueError, TypeError):
            raise UsageError(f"{path} is damaged: remove the folder {self.folder}") from None
        if theirs.get("images") != ours["images"]:
            raise UsageError(
                f"the targets in {self.folder} are of other photographs than those of {self.photographs.folder}: "
                "remove the folder, or give another with --cache"
            )
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise UsageError(
                    f"the targets in {self.folder} were computed with {name} = {theirs.get(name)!r}, not {value!r}: "
                    "remove the folder, or give another with --cache"
                )

    def _array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.memmap[Any, Any]:
        """Open or create an array; UsageError if it is damaged, GradfecError if there is no room for it."""
        path = self.folder / f"{name}.npy"
        wanted = np.dtype(dtype)
        size = math.prod(shape) * wanted.itemsize
        # The file is sparse, and writing to it on a full disk is a bus error. So check first that it fits.
        room = shutil.disk_usage(self.folder).free + (path.stat().st_blocks * 512 if path.exists() else 0)
        if room < size:
            raise GradfecError(
                f"{path} needs {size / 1e9:.1f} GB, and {room / 1e9:.1f} GB are free: give another --cache"
            )
        mode: Literal["r+", "w+"] = "r+" if path.exists() else "w+"
        try:
            array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode, wanted, shape)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise UsageError(f"{path} is damaged ({error}): remove the folder {self.folder}") from None
        if (array.shape, array.dtype) != (shape, wanted):
            raise UsageError(f"{path} is damaged (it is {array.dtype} {array.shape}): remove the folder {self.folder}")
        return array

    def _flush(self) -> None:
        """Write the arrays first, and then the state, which marks them as complete."""
        arrays = [self.energy, self.power, self.importance, self.saliency, self.sensitivity]
        for array in [*arrays, *([] if self.elements is None else [self.elements]), self.state]:
            array.flush()


def tile_sums(elements: Floats, grid: PacketGrid) -> Floats:
    """Sum elements (N, H, W, C) over tiles: (N, groups, tiles, C)."""
    _, width, channels = grid.shape
    across = grid.tiles
    # (N, 56, 56, 256) -> (N, 8 groups, 7 rows, 8 tiles, 7, 256) -> (N, 8, 8, 256)
    tiles: Floats = elements.reshape(len(elements), grid.groups, grid.rows, across, width // across, channels)
    return np.asarray(tiles.sum(axis=(2, 4)))


def gradient_shares(gradient: Floats, grid: PacketGrid) -> Floats:
    """Return each tile's share (N, groups, tiles) of the squared gradient (N, H, W, C)."""
    tiles = tile_sums(gradient**2, grid).sum(axis=3)  # (N, 8, 8, 256) -> (N, 8, 8)
    shares: Floats = tiles / np.maximum(tiles.sum(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    return shares


def gradient_products(gradient: Floats, grid: PacketGrid) -> Floats:
    """Return the mean products of the channels' gradients (N, 2, C, C): at single positions, and of means over tiles.

    All images count equally, however confident the network is: the first matrix has the trace C.
    """
    count, height, width, channels = gradient.shape
    positions = gradient.reshape(count, height * width, channels)  # (N, 56, 56, 256) -> (N, 3136, 256)
    tiles = tile_sums(gradient, grid).reshape(count, -1, channels)  # (N, 8, 8, 256) -> (N, 64, 256)
    means = tiles * (tiles.shape[1] / positions.shape[1])
    products = [np.matmul(x.transpose(0, 2, 1), x) / x.shape[1] for x in (positions, means)]
    scale = channels / np.maximum(np.trace(products[0], axis1=1, axis2=2), channels * np.finfo(np.float32).tiny)
    scaled: Floats = np.stack(products, axis=1) * scale[:, None, None, None]  # -> (N, 2, C, C)
    return scaled


def is_held_out(name: str) -> bool:
    """Return whether the image `name` is held out; the same on every machine, whatever the other images are."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") % HELD_OUT == 0


def shuffled(names: list[str]) -> list[str]:
    """Return the names in an order that depends only on the names, so that the first few are a fair sample."""
    return sorted(names, key=lambda name: hashlib.sha256(b"order" + name.encode()).digest())
