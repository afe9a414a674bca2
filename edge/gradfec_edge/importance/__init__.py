"""Importance estimators: how much each packet matters to the answer (the paper, Eq. 1 and 2).

The free ones need no network and are computed from chi alone; the proxies are learned, and run in the front-end's
graph. Both give one score per packet.
"""

from __future__ import annotations

import numpy as np

from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, full_name
from gradfec_common.networks.imported import Imported
from gradfec_common.packets import PacketGrid
from gradfec_common.quantisers import Needs
from gradfec_edge.importance.free import FREE, Estimator
from gradfec_edge.importance.latents import LatentProxy, has_ranking
from gradfec_edge.importance.shipped import OF_IMAGE, PROXIES, EstimatorFile, shipped
from gradfec_host.models.find import learned_at

__all__ = [
    "DEFAULT_ESTIMATOR", "ESTIMATORS", "STREAM_ESTIMATOR", "Estimator", "EstimatorFile", "default_estimator",
    "make_estimator",
]  # fmt: skip

DEFAULT_ESTIMATOR = "proxy"
STREAM_ESTIMATOR = "order"  # the only one for streams
LATENT_ESTIMATOR = "energy"
ESTIMATORS = (*PROXIES, *FREE)
RECIPES = ("best", *OF_IMAGE)  # of proxies


def default_estimator(cut: Cut, grid: PacketGrid, needs: Needs = Needs.NOTHING) -> str:
    """Return the best estimator that is shipped for these packets, by what each of them needs."""
    if needs is not Needs.NOTHING:
        return STREAM_ESTIMATOR
    if cut.masked:
        return DEFAULT_ESTIMATOR if has_ranking(cut, grid) else LATENT_ESTIMATOR
    if isinstance(cut.network, Imported):
        return "deviation" if learned_at(cut) else "activation" if cut.rectified else LATENT_ESTIMATOR
    about = EstimatorFile.read(shipped(DEFAULT_ESTIMATOR)).about
    return DEFAULT_ESTIMATOR if (about["split"], about["rows"]) == (full_name(cut), grid.rows) else "activation"


def make_estimator(name: str, cut: Cut, grid: PacketGrid, rng: np.random.Generator) -> Estimator | EstimatorFile:
    """Return the estimator of that name: a free one ready to be called, or a proxy's weights for the front-end.

    `name` may also be the file (.npz) of a proxy that `gradfec train-proxy` has made. UsageError if there is none, or
    if it was made for another cut or other packets.
    """
    if name == DEFAULT_ESTIMATOR and cut.masked:
        return LatentProxy(cut, grid, rng)
    if name in PROXIES or name.endswith(".npz"):
        proxy = EstimatorFile.read(shipped(name) if name in PROXIES else name)
        proxy.check_fits(cut, grid)
        if proxy.about["recipe"] not in RECIPES:
            raise UsageError(f"{name} is of the recipe {proxy.about['recipe']!r}, which ranks nothing: give a proxy")
        return proxy
    if name not in FREE:
        raise UsageError(
            f"no importance estimator is called {name!r}: use one of {', '.join(ESTIMATORS)}, or a file that gradfec "
            "train-proxy has made (.npz)"
        )
    return FREE[name](cut, grid, rng)
