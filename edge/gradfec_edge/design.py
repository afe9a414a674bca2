"""A pipeline before it is set up: what is decided of it, and which front-end it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, Network
from gradfec_common.quantisers import Needs
from gradfec_edge.coding import Coding
from gradfec_edge.frontend import FrontEnd, load_front_end
from gradfec_edge.frontend.nothing import NoFrontEnd
from gradfec_edge.importance import STREAM_ESTIMATOR, EstimatorFile, default_estimator, make_estimator
from gradfec_edge.pipeline import Choose, Pipeline
from gradfec_host.models import Model
from gradfec_host.weights import Weights

Graph = tuple[Cut, str, int]  # what identifies a front-end


class Design:
    """A coding, and the estimator that ranks its packets: `proxy` if that is part of the front-end, otherwise `free`.

    `importance` is its name.
    """

    def __init__(self, coding: Coding, importance: str | None = None, seed: int = 0) -> None:
        """Decide on the default estimator unless one is named; UsageError if it is not for such packets."""
        cut, grid, needs = coding.cut, coding.grid, coding.quantiser.needs
        self.coding = coding
        self.importance = importance or default_estimator(cut, grid, needs)
        if needs is not Needs.NOTHING and self.importance != STREAM_ESTIMATOR:
            raise UsageError(
                f"the packets of {coding.quantiser.name} matter in their order: leave --importance "
                f"{self.importance} out"
            )
        estimator = make_estimator(self.importance, cut, grid, np.random.default_rng(seed))
        self.proxy = estimator if isinstance(estimator, EstimatorFile) else None
        self.free = None if isinstance(estimator, EstimatorFile) else estimator

    @property
    def compensates(self) -> bool:
        """Whether it scales kept packets for dropped ones, for which the estimator must know what these would do."""
        coding = self.coding
        knows = self.proxy is not None and self.proxy.about["recipe"] == "best"
        return coding.compensate and knows and coding.quantiser.sizes(coding.grid) is not None

    @property
    def graph(self) -> Graph:
        """What identifies the front-end that it needs."""
        coding = self.coding
        return (coding.cut, self.importance, coding.grid.rows) if self.proxy else (coding.cut, "", 0)

    @property
    def runs_network(self) -> bool:
        """Whether its front-end has layers, and so needs weights and a runtime."""
        return bool(self.coding.cut.front_layers) or self.proxy is not None

    def load(self, runtime: str, weights: Mapping[Network, Weights | Model]) -> FrontEnd:
        """Load its front-end; GradfecError if `weights` lacks an array."""
        cut = self.coding.cut
        if self.runs_network:
            return load_front_end(runtime, cut, weights[cut.network], self.proxy)
        return NoFrontEnd(cut.network.preprocess)

    def pipeline(self, front_end: FrontEnd, others: Sequence[Pipeline] = (), choose: Choose | None = None) -> Pipeline:
        """Return the pipeline for frames that go this way, or by one of the `others` if `choose` says so."""
        return Pipeline(self.coding, front_end, self.free, others, choose)
