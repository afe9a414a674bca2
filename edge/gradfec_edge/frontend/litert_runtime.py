"""The front-end on LiteRT: put together from the weights at start, without TensorFlow. The edge's only LiteRT."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from gradfec_common.networks import Cut
from gradfec_common.networks.pixels import normalise
from gradfec_edge.frontend import Features
from gradfec_edge.frontend.litert_proxy import add_proxy
from gradfec_edge.importance import EstimatorFile
from gradfec_edge.importance.second_order import Ranking
from gradfec_host.litert_graph import Graph
from gradfec_host.litert_network import front_end
from gradfec_host.quiet import quiet_stderr
from gradfec_host.runtimes import cores
from gradfec_host.weights import Weights


class LiteRTFrontEnd:
    """Images in, feature tensors chi out, and their packets' importance; one image at a time."""

    def __init__(self, cut: Cut, weights: Weights, proxy: EstimatorFile | None = None) -> None:
        """Build the layers up to `cut`, and `proxy` with them; GradfecError if `weights` lacks an array."""
        self.cut = cut
        self._rank = Ranking(proxy, cut) if proxy else None
        graph = Graph()
        image = graph.input(cut.network.input.name, (1, *cut.network.input.shape))
        outputs = [front_end(graph, image, cut, weights)]
        if proxy and self._rank:
            outputs.append(add_proxy(graph, image, outputs[0], proxy, cut, self._rank.grid))
        with quiet_stderr():
            self._model = Interpreter(model_content=graph.model(outputs), num_threads=cores())
            self._model.allocate_tensors()
        self._input = self._model.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._model.get_output_details()]

    def warm_up(self) -> None:
        """Touch the memory once, so that the first frame is as fast as the rest."""
        self(np.zeros(self.cut.network.input.shape, np.uint8))

    def __call__(self, image: NDArray[np.uint8]) -> Features:
        """Return the features of an RGB image (height, width, 3) uint8."""
        normalised = normalise(image, self.cut.network.preprocess)
        self._model.set_tensor(self._input, normalised[np.newaxis])  # (224, 224, 3) -> (1, 224, 224, 3)
        self._model.invoke()
        chi, *seen = (self._model.get_tensor(index) for index in self._outputs)  # (1, ...) each
        if not self._rank:
            return Features(chi[0])
        scores, damage = self._rank(seen[0])
        return Features(chi[0], scores[0], None if damage is None else damage[0])
