"""The back-end on LiteRT: built from the weights at start, without TensorFlow. The cloud's only LiteRT."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from gradfec_cloud.backend import check_features
from gradfec_common.networks import Cut
from gradfec_host.litert_graph import Graph
from gradfec_host.litert_network import back_end
from gradfec_host.quiet import quiet_stderr
from gradfec_host.runtimes import cores
from gradfec_host.weights import Weights


class LiteRTBackEnd:
    """Feature tensors in, outputs out; one after the other, because a batch saves nothing here."""

    def __init__(self, cut: Cut, weights: Weights, max_batch: int = 8) -> None:
        """Build the layers after `cut`; GradfecError if `weights` lacks one of their arrays."""
        self.cut = cut
        self.max_batch = max_batch
        graph = Graph()
        outputs = back_end(graph, graph.input("chi", (1, *cut.received.shape)), cut, weights)
        with quiet_stderr():
            self._model = Interpreter(model_content=graph.model([outputs]), num_threads=cores())
            self._model.allocate_tensors()
        self._input = self._model.get_input_details()[0]["index"]
        self._output = self._model.get_output_details()[0]["index"]

    def warm_up(self) -> None:
        """Touch the memory once, so that the first tensor is served as fast as the rest."""
        self(np.zeros((1, *self.cut.received.shape), np.float32))

    def __call__(self, chi: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs (N, classes) of chi (N, H, W, C) float32; ValueError for any other shape or N."""
        check_features(chi, self.cut, self.max_batch)
        return np.concatenate([self._answer(chi[n : n + 1]) for n in range(len(chi))])  # N x (1, C) -> (N, C)

    def _answer(self, chi: NDArray[np.float32]) -> NDArray[np.float32]:
        self._model.set_tensor(self._input, chi)
        self._model.invoke()
        outputs: NDArray[np.float32] = self._model.get_tensor(self._output)
        return outputs
