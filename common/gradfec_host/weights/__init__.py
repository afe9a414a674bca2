"""Networks' weights: their cache, their verification and their download."""

from __future__ import annotations

from gradfec_host.weights.fetch import ensure_weights
from gradfec_host.weights.hashes import Verification
from gradfec_host.weights.store import (
    Progress,
    Weights,
    WeightStore,
    cache_path,
    gradfec_home,
    import_weights,
    open_weights,
    write_slice,
)

__all__ = [
    "Progress",
    "Verification",
    "WeightStore",
    "Weights",
    "cache_path",
    "ensure_weights",
    "gradfec_home",
    "import_weights",
    "open_weights",
    "write_slice",
]
