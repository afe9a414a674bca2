"""Files of what estimators have learned: arrays, and an account of how they came about. The package ships some."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import Cut, full_name
from gradfec_common.packets import PacketGrid
from gradfec_host.arrays import DAMAGE, digest_of, read_arrays, write_arrays
from gradfec_host.writing import writing

FOLDER = Path(__file__).parent
PROXIES = ("proxy", "proxy-paper")
STATISTICS = "statistics"  # what `deviation` and `static` take from training images
ABOUT = "about"  # the array that holds the account, as JSON
OF_IMAGE = ("paper", "paper-verbatim")  # the recipes of proxies that look at the image and not at its features
MUST_SAY = ("recipe", "split", "rows")


def shipped(name: str) -> Path:
    """Return the file that the package ships under that name."""
    return FOLDER / f"{name}.npz"


@dataclass(frozen=True)
class EstimatorFile:
    """Arrays by name, float32 once read, and `about`: recipe, split, rows, seed, images, command and figures."""

    path: Path
    about: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[np.float32]]

    @classmethod
    def read(cls, path: str | Path) -> EstimatorFile:
        """Read a file; GradfecError if it cannot be read, UsageError if it is not one of ours."""
        path = Path(path)
        try:
            stored = read_arrays(path)
            about = json.loads(str(stored.pop(ABOUT)))
            arrays = {name: array.astype(np.float32) for name, array in stored.items()}
        except FileNotFoundError:
            raise GradfecError(
                f"there is no estimator {path}: make one with gradfec train-proxy --out {path}"
            ) from None
        except OSError as error:
            raise GradfecError(f"cannot read the estimator {path}: {error.strerror or error}") from None
        except DAMAGE:
            raise UsageError(f"{path} is damaged, or not an estimator made by gradfec train-proxy") from None
        if not isinstance(about, dict) or any(key not in about for key in MUST_SAY):
            raise UsageError(f"{path} is not an estimator made by gradfec train-proxy: it does not say what it is for")
        return cls(path, about, arrays)

    @property
    def digest(self) -> str:
        """Return a short digest of the arrays."""
        return digest_of(self.arrays)

    def array(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return one array; UsageError if it is missing or of another shape."""
        if name not in self.arrays or self.arrays[name].shape != shape:
            found = self.arrays[name].shape if name in self.arrays else "missing"
            raise UsageError(
                f"{self.path} is no {self.about['recipe']} estimator of this release: {name} is {found}, not {shape}"
            )
        return self.arrays[name]

    def write(self) -> None:
        """Write the file whole or not at all; as float16 what that can hold, for scores are only compared."""
        limit = np.finfo(np.float16).max
        arrays = {
            name: array.astype(np.float16 if np.abs(array).max(initial=0) < limit else np.float32)
            for name, array in self.arrays.items()
        }
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(self.path, {ABOUT: np.array(json.dumps(dict(self.about))), **arrays})

    def check_fits(self, cut: Cut, grid: PacketGrid, name: str | None = None) -> None:
        """Refuse, with UsageError, packets other than those that this, or the estimator `name` by it, was made for."""
        theirs, ours = (self.about["split"], self.about["rows"]), (full_name(cut), grid.rows)
        if theirs != ours:
            cure = (
                "it is for features without a bottleneck, for example with --codec sqrt4"
                if cut.masked
                else f"train one with gradfec train-proxy --split {ours[0]} --rows {grid.rows}, or use "
                "--importance activation"
            )
            raise UsageError(
                f"{name or self.path.stem} ranks packets of {theirs[1]} rows of {theirs[0]}, not of {grid.rows} rows "
                f"of {ours[0]}: {cure}"
            )
