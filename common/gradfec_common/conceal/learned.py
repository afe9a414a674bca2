"""`learned`: a small network corrects what `gaussian` puts into the gaps.

It sees the filled tensor and a mask of the packets that are there, as networks do that paint over holes in pictures
(e.g. G. Liu et al., "Image Inpainting for Irregular Holes Using Partial Convolutions", ECCV 2018). `gaussian` looks at
one place at a time, and is linear. The network also sees the places around it, and has learned what the back-end makes
of its answer. With x the filled tensor and t the mask, both (H, W, C), and * a convolution over 3 x 3 places,

    h = relu(x E + t T + e),  g = relu(h + N_2 * relu(N_1 * h + n_1) + n_2),  a gap becomes x + g L + l,

where h and g have WIDTH channels. `gradfec train-fill` finds the matrices; they hold for packets of any number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from gradfec_common.conceal.concealment import Floats, Learned, Mask, Stepwise
from gradfec_common.conceal.gaps import by_group, groups_there, rows_there
from gradfec_common.conceal.gaussian import Gaussian
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid

WIDTH = 32
ENTER, THERE, ENTER_BIAS = "network/enter", "network/there", "network/enter_bias"  # E, T, e
NEAR, NEAR_BIAS = "network/near", "network/near_bias"  # N_1 and N_2, n_1 and n_2
LEAVE, LEAVE_BIAS = "network/leave", "network/leave_bias"  # L, l


def network_shapes(channels: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the network's arrays, by name."""
    return {
        ENTER: (channels, WIDTH),
        THERE: (channels, WIDTH),
        ENTER_BIAS: (WIDTH,),
        NEAR: (2, 3, 3, WIDTH, WIDTH),  # from above to below, from left to right, from channel, to channel
        NEAR_BIAS: (2, WIDTH),
        LEAVE: (WIDTH, channels),
        LEAVE_BIAS: (channels,),
    }


class LearnedFill(Stepwise):
    """Correct what `gaussian` fills in; its steps, and then one."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Take the network's arrays and those of `gaussian`; UsageError if some are missing."""
        if missing := network_shapes(cut.shape[2]).keys() - learned:
            raise UsageError(
                f"no network was trained to fill gaps at {cut.name!r} ({min(missing)} is missing): use --fill auto, or "
                "train one with gradfec train-fill"
            )
        self._first = Gaussian(cut, learned)
        self._arrays = {name: learned[name] for name in network_shapes(cut.shape[2])}

    def steps(self, tensor: Floats, there: Mask, grid: PacketGrid) -> Iterator[None]:
        """See Stepwise."""
        if there.all():
            return
        yield from self._first.steps(tensor, there, grid)
        found = self._inner(tensor, rows_there(there, grid).astype(np.float32))
        found = found.reshape(grid.groups, grid.rows, -1, WIDTH)  # (56, 56, 32) -> (8, 7, 56, 32)
        groups, leave, bias = by_group(tensor, grid), self._arrays[LEAVE], self._arrays[LEAVE_BIAS]
        for group, missing in enumerate(~groups_there(there, grid)):
            groups[group][..., missing] += found[group] @ leave[:, missing] + bias[missing]
        yield

    def _inner(self, tensor: Floats, there: Floats) -> Floats:
        """Return g (H, W, WIDTH) for a filled tensor and the rows (H, C) that are there."""
        own = self._arrays
        about = there @ own[THERE] + own[ENTER_BIAS]  # (H, WIDTH)
        inner = np.maximum(tensor @ own[ENTER] + about[:, None], 0)
        first, second = zip(own[NEAR], own[NEAR_BIAS], strict=True)
        return np.maximum(inner + near(np.maximum(near(inner, *first), 0), *second), 0)


def near(x: Floats, kernel: Floats, bias: Floats) -> Floats:
    """Convolve x (H, W, c) with a kernel (3, 3, c, d), with zeros around it, and add the bias: (H, W, d)."""
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    beside = np.concatenate([padded[:, column : column + width] for column in range(3)], axis=2)  # (H + 2, W, 3c)
    found: Floats = bias + beside[:height] @ kernel[0].reshape(-1, len(bias))  # (3, c, d) -> (3c, d)
    for row in (1, 2):
        found += beside[row : row + height] @ kernel[row].reshape(-1, len(bias))
    return found
