"""Recorded losses: which of a tensor's datagrams are lost, by position in send order, the same for every policy.

A tensor with fewer datagrams uses the first of them. The file is a NumPy archive. For each mean burst length and loss
it has an array of bits, `iid,0.4` or `8,0.4`, of shape (images, repetitions, bytes), packed as by np.packbits; 1 means
lost. `symbols` is the number of bits that count.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradfec_cli.loss_models import GilbertElliottLoss, IndependentLoss, LossModel, gilbert_elliott_transitions
from gradfec_common.errors import GradfecError, UsageError
from gradfec_lab.sweep.store import write_file

IID = "iid"
DATAGRAMS = "symbols"  # the number's name in the file

Mask = npt.NDArray[np.bool_]
Packed = npt.NDArray[np.uint8]


def is_feasible(burst: str, loss: float) -> bool:
    """Return whether bursts of that length can lose that share; at least one datagram arrives between two bursts."""
    if burst == IID or loss in {0.0, 1.0}:
        return True
    try:
        gilbert_elliott_transitions(loss, float(burst))
    except UsageError:
        return False
    return True


def loss_model(burst: str, loss: float, rng: np.random.Generator) -> LossModel:
    """Return the model of losses that are independent (`iid`) or in bursts."""
    if burst == IID or loss in {0.0, 1.0}:
        return IndependentLoss(loss, rng)
    return GilbertElliottLoss(loss, float(burst), rng)


class Losses:
    """Fates of the datagrams of (images, repetitions) tensors, for several burst lengths and losses."""

    def __init__(self, images: int, repetitions: int, datagrams: int) -> None:
        self.shape = (images, repetitions, datagrams)
        self._packed: dict[str, Packed] = {}

    def lost(self, burst: str, loss: float, image: int) -> Mask:
        """Return which datagrams (repetitions, datagrams) of an image's tensor are lost, by position in send order."""
        _, repetitions, datagrams = self.shape
        rows = self._packed[entry(burst, loss)][image, :repetitions]
        return np.unpackbits(rows, axis=-1, count=datagrams).astype(bool)

    def draw(self, links: Iterable[tuple[str, float]], seed: int) -> None:
        """Draw missing losses; each tensor's depend only on seed, link, image and repetition."""
        images, repetitions, datagrams = self.shape
        for burst, loss in links:
            if entry(burst, loss) in self._packed:
                continue
            packed = np.empty((images, repetitions, -(-datagrams // 8)), np.uint8)
            mean_burst = 0 if burst == IID else round(1000 * float(burst))
            for image, repetition in np.ndindex(images, repetitions):
                rng = np.random.default_rng([seed, mean_burst, round(1e6 * loss), image, repetition])
                packed[image, repetition] = np.packbits(loss_model(burst, loss, rng).draw(datagrams))
            self._packed[entry(burst, loss)] = packed

    def save(self, path: Path) -> None:
        """Write all losses to a file."""
        buffer = io.BytesIO()
        np.savez(buffer, **{DATAGRAMS: np.array(self.shape[2])}, **self._packed)  # type: ignore[arg-type]
        write_file(path, buffer.getvalue())

    def load(self, path: Path, links: Iterable[tuple[str, float]]) -> None:
        """Read recorded losses for all `links` from a file; UsageError if it lacks some, GradfecError if unreadable."""
        images, repetitions, datagrams = self.shape
        try:
            with np.load(path, allow_pickle=False) as archive:
                recorded = int(archive[DATAGRAMS])
                packed = {name: archive[name] for name in archive.files if name != DATAGRAMS}
        except OSError as error:
            raise GradfecError(f"cannot read the recorded losses {path}: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            raise UsageError(f"{path} has no recorded losses: --masks takes the losses.npz of a sweep") from None
        for burst, loss in links:
            name = entry(burst, loss)
            if name not in packed:
                raise UsageError(f"{path} has no losses {name} (burst, loss), only {' '.join(packed)}")
            has = (*packed[name].shape[:2], recorded)
            if packed[name].dtype != np.uint8 or packed[name].ndim != 3 or packed[name].shape[2] * 8 < recorded:
                raise UsageError(f"{path} has no recorded losses: --masks takes the losses.npz of a sweep")
            if has[0] < images or has[1] < repetitions or recorded != datagrams:
                raise UsageError(
                    f"{path} has losses {name} of {shape_text(has)}, but {shape_text(self.shape)} are needed: "
                    "use it with no more --images and --repetitions, and with the same --split and --rows"
                )
            self._packed[name] = packed[name]


def entry(burst: str, loss: float) -> str:
    """Return the name of an array in the file."""
    return f"{burst},{loss:g}"


def shape_text(shape: tuple[int, ...]) -> str:
    """Write a shape as text."""
    images, repetitions, datagrams = shape
    return f"{images} images x {repetitions} repetitions x {datagrams} datagrams"
