"""What `silrtc` and `halrtc` share: the three unfoldings of a tensor, and the shrinkage of their singular values.

J. Liu, P. Musialski, P. Wonka, J. Ye, "Tensor Completion for Estimating Missing Values in Visual Data", IEEE TPAMI
35(1), 2013. Shrinkage is its operator D: each singular value s becomes max(s - threshold, 0). (DFTS2's code subtracts
the threshold from all of them, and lets small ones become negative.)

An unfolding is n x m with n far below m, and its left singular vectors are the eigenvectors of its Gram matrix (n, n).
So D is a product with an (n, n) matrix: a decomposition of 256 x 256 instead of 256 x 3136. Squaring loses singular
values below about 1/3000 of the largest, which any useful threshold removes anyway.
"""

from __future__ import annotations

import numpy as np

from gradfec_common.conceal.concealment import Floats

MODES = (0, 1, 2)


def shrink(tensor: Floats, mode: int, threshold: float) -> Floats:
    """Return the (H, W, C) tensor whose unfolding along `mode` has its singular values shrunk; LinAlgError."""
    others = [other for other in MODES if other != mode]
    gram = np.tensordot(tensor, tensor, (others, others)).astype(np.float64)  # (n, n)
    squares, vectors = np.linalg.eigh(gram)
    values = np.sqrt(np.maximum(squares, 0))
    shares = np.maximum(values - threshold, 0) / np.maximum(values, np.finfo(np.float32).tiny)
    operator = ((vectors * shares) @ vectors.T).astype(np.float32)
    shrunk: Floats
    if mode == 0:
        shrunk = np.tensordot(operator, tensor, 1)
    elif mode == 1:
        shrunk = operator @ tensor  # (W, W) @ (H, W, C)
    else:
        shrunk = tensor @ operator  # which is symmetric
    return shrunk


def norms(tensor: Floats) -> list[float]:
    """Return the largest singular value of each unfolding."""
    found = []
    for mode in MODES:
        others = [other for other in MODES if other != mode]
        gram = np.tensordot(tensor, tensor, (others, others)).astype(np.float64)
        found.append(float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0))))
    return found
