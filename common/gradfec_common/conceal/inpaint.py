"""`inpaint`: a gap becomes the surface that heat settles into between its edges, in each channel separately.

I. V. Bajic, "Latent-Space Inpainting for Packet Loss Concealment in Collaborative Object Detection", IEEE ICC 2021,
shows that what a diffusion equation fills in survives convolution, activation and pooling, so that image inpainting
works on features. This is the steady state of the linear equation: the Laplacian is 0 in the gap, the rows around it
are fixed, and nothing flows across the channel's border. There are no parameters. A channel without a row becomes 0.

A gap is as wide as the channel, so no iteration is needed. A cosine transform along the rows separates the frequencies
f = 0 .. W - 1, and each obeys u[y - 1] - 2 cosh(t) u[y] + u[y + 1] = 0 with cosh(t) = 2 - cos(pi f / W). Between rows
at distances a above and b below, the solution is

    u = u_above sinh(b t) / sinh((a + b) t) + u_below sinh(a t) / sinh((a + b) t),

which is linear interpolation, as in `neighbour`, for f = 0, and fades away from the rows for the others. A gap at the
border has its one row on both sides: its mirror image behind the border is what stops the flow.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gradfec_common.conceal.concealment import Floats, Learned, Mask, Stepwise
from gradfec_common.conceal.gaps import Indices, clear_gaps, missing_rows, rows_there
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid


class Inpaint(Stepwise):
    """Solve Laplace's equation in the gaps, in one step."""

    def __init__(self, cut: Cut, learned: Learned) -> None:
        """Use no learned arrays."""

    def steps(self, tensor: Floats, there: Mask, grid: PacketGrid) -> Iterator[None]:
        """See Stepwise."""
        clear_gaps(tensor, there, grid)
        height, width, _ = grid.shape
        row, channel, above, below = missing_rows(rows_there(there, grid))
        up = np.where(above > row, -1 - above, above)  # its mirror image if there is none above
        down = np.where(below < row, 2 * height - 1 - below, below)
        cosines, decay = transform(width)
        spectrum = tensor[above, :, channel] @ cosines * weights(row - up, down - up, decay)  # (n, W)
        spectrum += tensor[below, :, channel] @ cosines * weights(down - row, down - up, decay)
        tensor[row, :, channel] = spectrum @ cosines.T
        yield


def transform(width: int) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Return the orthonormal cosine transform (W, W), a column a frequency, and t (W,) of each frequency."""
    frequency = np.pi * np.arange(width) / width
    cosines = np.cos(np.outer(np.arange(width) + 0.5, frequency)) * np.sqrt(2 / width)
    cosines[:, 0] /= np.sqrt(2)
    return cosines.astype(np.float32), np.arccosh(2 - np.cos(frequency))


def weights(distance: Indices, gap: Indices, decay: npt.NDArray[np.float64]) -> Floats:
    """Return sinh((gap - distance) t) / sinh(gap t), (n, W), and its limit for t = 0; without overflow."""
    near, whole = distance[:, None], gap[:, None]
    found = np.empty((len(distance), len(decay)), np.float32)
    found[:, :1] = 1 - near / whole
    t = decay[1:]
    found[:, 1:] = np.exp(-near * t) * np.expm1(-2 * (whole - near) * t) / np.expm1(-2 * whole * t)
    return found
