"""Concealment: what the cloud puts in place of missing packets. Each is a file here and a line in CONCEALMENTS."""

from __future__ import annotations

from gradfec_common.conceal.concealment import Concealment, Learned, MakeConcealment
from gradfec_common.conceal.mask import Masked
from gradfec_common.conceal.mean import Mean
from gradfec_common.conceal.zero import Zero
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut

__all__ = ["CONCEALMENTS", "DEFAULT_CONCEALMENT", "Concealment", "Learned", "make_concealment"]

CONCEALMENTS: dict[str, MakeConcealment] = {"zero": Zero, "mean": Mean, "mask": Masked}
DEFAULT_CONCEALMENT = "zero"


def make_concealment(name: str, cut: Cut, learned: Learned) -> Concealment:
    """Make the concealment of that name for a cut, with the `learned` arrays; UsageError if there is none."""
    if name not in CONCEALMENTS:
        raise UsageError(f"no concealment is called {name!r}: use one of {', '.join(CONCEALMENTS)}")
    return CONCEALMENTS[name](cut, learned)
