"""Quantisers: how a tensor becomes the bytes of packets. Each is a file here and a line in QUANTISERS."""

from __future__ import annotations

import difflib
import re

from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_common.quantisers.image import FORMATS, ImageCodec
from gradfec_common.quantisers.laplace import Laplace
from gradfec_common.quantisers.local import Local
from gradfec_common.quantisers.quantiser import MAX_PARAMETER_BYTES, Adjustable, Coded, Decoded, Needs, Quantiser
from gradfec_common.quantisers.square_root import SquareRoot
from gradfec_common.quantisers.uniform import Uniform

__all__ = [
    "AUTO", "MAX_PARAMETER_BYTES", "QUANTISERS", "Coded", "Decoded", "Needs", "Quantiser", "chosen_quantiser",
    "default_cut", "is_stream", "quantiser_of_id",
]  # fmt: skip

QUANTISERS: dict[str, Quantiser] = {
    **{f"uniform{bits}": Uniform(bits) for bits in (8, 7, 6, 5, 4)},
    **{f"local{bits}": Local(bits) for bits in (8, 7, 6, 5, 4)},
    **{f"sqrt{bits}": SquareRoot(bits) for bits in (6, 5, 4, 3, 2)},
    Laplace.name: Laplace(),
    **{format.name: ImageCodec(format) for format in FORMATS},
}
AUTO = "auto"
BEST = ("sqrt4", "local6")  # what `auto` means: the first that fits the cut


def chosen_quantiser(name: str, cut: Cut) -> Quantiser:
    """Return the quantiser of that name, or for `auto` the best for the cut; UsageError if there is none."""
    if name == AUTO:
        return next(QUANTISERS[one] for one in BEST if QUANTISERS[one].fits(cut))
    quantiser = _named(name)
    if not quantiser.fits(cut):
        fitting = [other.name for other in QUANTISERS.values() if other.fits(cut)]
        raise UsageError(f"{name} is not made for the tensors of {cut.name}: use one of {', '.join(fitting)}")
    return quantiser


def default_cut(name: str, usual: Cut) -> Cut:
    """Return the cut of a network for a quantiser if the user names none: the `usual` one, if it fits.

    UsageError if there is no such quantiser.
    """
    if name == AUTO:
        return usual
    quantiser = _named(name)
    return next((cut for cut in (usual, *usual.network.cuts) if quantiser.fits(cut)), usual)


def quantiser_of_id(id: int) -> Quantiser | None:
    """Return the quantiser with that number on the wire, or None."""
    return next((quantiser for quantiser in QUANTISERS.values() if quantiser.id == id), None)


def is_stream(id: int) -> bool:
    """Return whether the packets of the quantiser with that number are pieces of a file."""
    quantiser = quantiser_of_id(id)
    return quantiser is not None and quantiser.needs is not Needs.NOTHING


def _named(name: str) -> Quantiser:
    """Return the quantiser called `NAME`, or `NAME:QUALITY` if it has one; UsageError if there is none."""
    short, colon, quality = name.partition(":")
    quantiser = QUANTISERS.get(short)
    if quantiser is None or (colon and not isinstance(quantiser, Adjustable)):
        near = [short] if quantiser else difflib.get_close_matches(short, QUANTISERS, 1)
        others = f"use {AUTO} or one of {', '.join(QUANTISERS)}"
        hint = f"did you mean {near[0]}{'' if quantiser else colon + quality}?" if near else others
        raise UsageError(f"no codec is called {name!r}: {hint}")
    if not colon or not isinstance(quantiser, Adjustable):
        return quantiser
    if not re.fullmatch(r"[1-9]\d?|100", quality, re.ASCII):
        raise UsageError(f"{name!r}: the quality is a whole number from 1 to 100, for example {short}:75")
    return quantiser.with_quality(int(quality))
