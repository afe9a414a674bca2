"""What the network makes of the images at both ends of the bottleneck, and at last, kept on disk in bfloat16."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .job import Job

Compute = Callable[[slice], Sequence[Tensor]]
BATCH = 16
SAVE_BATCHES = 32  # 512 images: a minute or less


class Features:
    """The features of a job's images: at the cut, and at the layer that the decoder stands for.

    And the answers' `logits`, unless the network is imported.
    """

    def __init__(self, folder: Path, job: Job, count: int) -> None:
        """Keep them in `folder`, for the first `count` images: about 2.4 MB each for ResNet-50's default cut."""
        folder.mkdir(parents=True, exist_ok=True)
        self.count = count
        self._folder = folder
        self._at_cut = self._open("cut", job.shape(job.cut))
        self._at_join = self._open("join", job.shape(job.joins))
        self.logits: npt.NDArray[np.float32] | None = None
        if job.outputs:
            self.logits = self._open("logits", (1, 1, job.outputs), np.float32)[:, :, 0, 0]
        self._done = folder / "done.json"

    def _open(self, name: str, shape: tuple[int, int, int], dtype: Any = np.int16) -> npt.NDArray[Any]:
        path, (height, width, channels) = self._folder / f"{name}.bin", shape
        whole = (self.count, height, width, channels) if dtype == np.int16 else (self.count, channels, height, width)
        size = int(np.prod(whole)) * np.dtype(dtype).itemsize
        mode: Any = "r+" if path.exists() and path.stat().st_size == size else "w+"
        return np.memmap(path, dtype, mode, shape=whole)

    def compute(self, network: Compute, advance: Callable[[int], None]) -> None:
        """Compute what is not there yet; `advance` is told of how many images there are features now.

        `network` makes of some images their features (N, C, H, W) at both places and, if they are kept, their logits.
        """
        done = json.loads(self._done.read_text())["images"] if self._done.exists() else 0
        advance(done)
        if done >= self.count:
            return
        for first in range(done, self.count, BATCH):
            rows = slice(first, min(first + BATCH, self.count))
            chi, joined, *logits = network(rows)
            self._at_cut[rows], self._at_join[rows] = _stored(chi), _stored(joined)
            if self.logits is not None:
                self.logits[rows] = logits[0].float().cpu().numpy()
            advance(rows.stop - first)
            if (first // BATCH + 1) % SAVE_BATCHES == 0:
                self._done.write_text(json.dumps({"images": rows.stop}))
        self._done.write_text(json.dumps({"images": self.count}))

    def at_cut(self, image: int, window: tuple[slice, slice] = (slice(None), slice(None))) -> Tensor:
        """Return the features (H, W, C) at the cut in a window of an image, bfloat16."""
        return torch.from_numpy(np.array(self._at_cut[image][window])).view(torch.bfloat16)

    def at_join(self, image: int, window: tuple[slice, slice] = (slice(None), slice(None))) -> Tensor:
        """Return the features (H, W, C) that the decoder is to make, in a window of an image, bfloat16."""
        return torch.from_numpy(np.array(self._at_join[image][window])).view(torch.bfloat16)


def _stored(x: Tensor) -> npt.NDArray[np.int16]:
    """Return (N, C, H, W) as the bits of bfloat16 (N, H, W, C)."""
    return x.to(torch.bfloat16).permute(0, 2, 3, 1).contiguous().view(torch.int16).cpu().numpy()
