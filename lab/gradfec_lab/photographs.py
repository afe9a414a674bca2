"""A folder of photographs as the network's inputs; unusable ones are skipped, counted and named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import Preprocess
from gradfec_common.preprocess import to_input
from gradfec_edge.camera import IMAGE_SUFFIXES, read_image

MIN_SIDE = 32  # pixels; anything smaller is an icon and not a photograph

Inputs = npt.NDArray[np.uint8]  # (N, side, side, 3) RGB


class Photographs:
    """The images of a folder, sorted by name."""

    def __init__(self, folder: Path, preprocess: Preprocess, limit: int | None = None) -> None:
        """List the first `limit` images, by name; UsageError if there are none, GradfecError if it cannot be read."""
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder: --images takes a folder of images")
        try:
            visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise GradfecError(f"cannot read the folder {folder}: {error.strerror}") from None
        self.folder, self.preprocess = folder, preprocess
        self.names = [path.name for path in visible if path.suffix.lower() in IMAGE_SUFFIXES][:limit]
        self.skipped: dict[str, str] = {}  # name: why
        if not self.names:
            raise UsageError(f"the folder {folder} has no images ({' '.join(sorted(s[1:] for s in IMAGE_SUFFIXES))})")

    def digest(self, names: Iterable[str]) -> str:
        """Return a digest of these images' names, in this order, and of their contents."""
        digest = hashlib.sha256()
        for name in names:
            try:
                content = (self.folder / name).read_bytes()
            except OSError:  # skipped and listed later
                content = b""
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + hashlib.sha256(content).digest())
        return digest.hexdigest()[:16]

    def read(self, name: str) -> npt.NDArray[np.uint8] | None:
        """Return one photograph as an input (side, side, 3) RGB; None, with the reason in `skipped`, if unusable."""
        image = self.picture(name)
        return None if image is None else to_input(image, self.preprocess)

    def picture(self, name: str) -> npt.NDArray[np.uint8] | None:
        """Return one photograph as it is (h, w, 3) BGR; None, with the reason in `skipped`, if unusable."""
        try:
            image = read_image(self.folder / name)
        except GradfecError as error:
            self.skipped[name] = str(error)
            return None
        if min(image.shape[:2]) < MIN_SIDE:
            height, width = image.shape[:2]
            self.skipped[name] = f"{self.folder / name} is {width}x{height} pixels: it needs at least {MIN_SIDE} a side"
            return None
        return image

    def batches(self, names: list[str], size: int) -> Iterator[tuple[list[str], Inputs]]:
        """Yield (names, inputs) of up to `size` usable photographs at a time, in the order of `names`."""
        ready: list[tuple[str, npt.NDArray[np.uint8]]] = []
        for name in names:
            image = self.read(name)
            if image is not None:
                ready.append((name, image))
            if ready and (len(ready) == size or name == names[-1]):
                yield [name for name, _ in ready], np.stack([image for _, image in ready])
                ready = []
