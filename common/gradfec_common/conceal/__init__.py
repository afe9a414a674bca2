"""Concealment: what the cloud puts in place of missing packets. Each is a file here and a line in CONCEALMENTS."""

from __future__ import annotations

from gradfec_common.conceal.altec import ALTeC
from gradfec_common.conceal.caltec import CALTeC
from gradfec_common.conceal.concealment import Concealment, Learned, MakeConcealment, Stepwise
from gradfec_common.conceal.gaussian import Gaussian
from gradfec_common.conceal.halrtc import HaLRTC
from gradfec_common.conceal.inpaint import Inpaint
from gradfec_common.conceal.learned import LearnedFill
from gradfec_common.conceal.mask import Masked
from gradfec_common.conceal.mean import Mean
from gradfec_common.conceal.moments import has_moments
from gradfec_common.conceal.neighbour import Neighbour
from gradfec_common.conceal.silrtc import SiLRTC
from gradfec_common.conceal.zero import Zero
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut

__all__ = ["AUTO", "CONCEALMENTS", "DEFAULT_CONCEALMENT", "Concealment", "Learned", "Stepwise", "make_concealment"]

CONCEALMENTS: dict[str, MakeConcealment] = {
    "zero": Zero,
    "mean": Mean,
    "neighbour": Neighbour,
    "silrtc": SiLRTC,
    "halrtc": HaLRTC,
    "altec": ALTeC,
    "caltec": CALTeC,
    "gaussian": Gaussian,
    "inpaint": Inpaint,
    "learned": LearnedFill,
    "mask": Masked,
}
AUTO = "auto"
DEFAULT_CONCEALMENT = AUTO


def make_concealment(name: str, cut: Cut, learned: Learned) -> Concealment:
    """Make the concealment of that name for a cut, with the `learned` arrays; UsageError if there is none.

    `auto` is what keeps most answers: `gaussian` if it has what it needs, otherwise `mean`, otherwise `zero`.
    """
    if name == AUTO:
        name = "gaussian" if has_moments(learned) else "mean" if "means" in learned else "zero"
    if name not in CONCEALMENTS:
        raise UsageError(f"no concealment is called {name!r}: use one of {', '.join([AUTO, *CONCEALMENTS])}")
    return CONCEALMENTS[name](cut, learned)
