"""Quantisers: how a tensor becomes the bytes of packets. Each is a file here and a line in QUANTISERS."""

from __future__ import annotations

from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.quantisers.laplace import Laplace
from gradfec_common.quantisers.quantiser import MAX_PARAMETER_BYTES, Coded, Decoded, Quantiser
from gradfec_common.quantisers.square_root import SquareRoot
from gradfec_common.quantisers.uniform import Uniform

__all__ = [
    "AUTO", "MAX_PARAMETER_BYTES", "QUANTISERS", "Coded", "Decoded", "Quantiser", "chosen_quantiser", "quantiser_of_id",
]  # fmt: skip

QUANTISERS: dict[str, Quantiser] = {
    **{f"uniform{bits}": Uniform(bits) for bits in (8, 7, 6, 5, 4)},
    **{f"sqrt{bits}": SquareRoot(bits) for bits in (6, 5, 4, 3, 2)},
    Laplace.name: Laplace(),
}
AUTO = "auto"
BEST = ("sqrt4", "uniform6")  # what `auto` means: the first that fits the cut


def chosen_quantiser(name: str, cut: Cut) -> Quantiser:
    """Return the quantiser of that name, or for `auto` the best for the cut; UsageError if there is none."""
    if name == AUTO:
        return next(QUANTISERS[one] for one in BEST if QUANTISERS[one].fits(cut))
    if name not in QUANTISERS:
        raise UsageError(f"no quantiser is called {name!r}: use {AUTO} or one of {', '.join(QUANTISERS)}")
    quantiser = QUANTISERS[name]
    if not quantiser.fits(cut):
        fitting = [other.name for other in QUANTISERS.values() if other.fits(cut)]
        raise UsageError(
            f"{name} is for features that a ReLU follows, and {cut.name} has others: use one of {', '.join(fitting)}"
        )
    return quantiser


def quantiser_of_id(id: int) -> Quantiser | None:
    """Return the quantiser with that number on the wire, or None."""
    return next((quantiser for quantiser in QUANTISERS.values() if quantiser.id == id), None)
