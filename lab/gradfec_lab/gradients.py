"""Gradients of networks that were added: PyTorch runs what is behind a cut, and goes back from the answer to the cut.

ONNX Runtime, which runs these networks, has no gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.heads import Classify, Detect, Head
from gradfec_common.networks.carried import apart, together
from gradfec_common.networks.imported import Imported, ImportedCut
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance.free import packet_sums
from gradfec_host.extras import need
from gradfec_host.models import Model
from gradfec_host.models.session import folded, run_once
from gradfec_host.models.store import BACK

Floats = npt.NDArray[np.float32]
Tensor = Any  # PyTorch's

SURE = 1e-6  # probabilities nearer to 0 or 1 have no logit here
LEAST = 1e-12
CLOSE = 1e-3  # of the largest output: by so much PyTorch may differ from ONNX Runtime


class Attribution(NamedTuple):
    """What matters to an answer: the modified Grad-CAM's elements, relu(chi * gradient), and the gradient (H, W, C)."""

    elements: Floats
    gradient: Floats


class Gradients:
    """The half of a network behind a cut, in PyTorch."""

    def __init__(self, cut: ImportedCut, model: Model) -> None:
        """Load the half; UsageError, which says why, if PyTorch is missing or cannot run it."""
        if find_spec("torch") is None:
            raise UsageError("PyTorch is not installed: pip install torch")
        need("onnx")
        import onnx
        import torch

        from gradfec_lab.codec.nodes import Nodes
        from gradfec_lab.training.imported_codec import runnable

        torch.set_num_threads(1)  # convolutions of one picture are small: more threads mostly wait, and spin
        assert isinstance(cut.network, Imported)  # noqa: S101
        self.cut, self.head = cut, cut.network.head
        half = model.half(BACK, cut)
        graph = onnx.load_from_string(folded(half, cut.network.name)).graph
        found, arrays = runnable(graph, {one.name for one in cut.carried}, whole_images=True)
        made = {node["output"] for node in found}
        lacking = [node.op_type for node in graph.node if node.op_type != "Constant" and made.isdisjoint(node.output)]
        if lacking:
            raise UsageError(f"{cut.network.name} has a {lacking[0]} behind {cut.name}, which has no gradient here")
        self._nodes, self._outputs = Nodes(found, arrays()), [one.name for one in graph.output]
        self._check(half)
        if isinstance(self.head, Classify) and found[-1]["kind"] == "Softmax":
            # A softmax that is sure of its answer lets hardly any gradient through: begin before it.
            self._outputs, self.head = [found[-1]["inputs"][0]], replace(self.head, logits=True)

    def _check(self, half: bytes) -> None:
        """Raise UsageError unless PyTorch computes what ONNX Runtime does."""
        chi = np.random.default_rng(0).normal(size=self.cut.shape).astype(np.float32)
        expected = run_once(half, self.cut.network.name, apart(self.cut.carried, chi))
        try:
            made = [output.detach().numpy() for output in self._run(chi)[1]]
            same = [np.abs(a - b).max() <= CLOSE * np.abs(b).max() for a, b in zip(made, expected, strict=True)]
        except Exception:  # PyTorch's are of many kinds
            same = [False]
        if not all(same):
            raise UsageError(f"PyTorch computes something else than ONNX Runtime behind {self.cut.name}")

    def __call__(self, chi: Floats) -> Attribution:
        """Explain the answer to features chi (H, W, C), as the network gives it."""
        sources, outputs = self._run(chi)
        gradient = self._back(explained(self.head, outputs), sources)
        return Attribution(np.maximum(chi * gradient, 0), gradient)

    def changes(self, chi: Floats, deviations: Floats, grid: PacketGrid, seed: int) -> Floats:
        """Estimate by how much the answer to chi changes if a packet strays by `deviations` (H, W, C), for each packet.

        (packets,): the squared change of what the answer is made of, relative to its square, to first order. One way
        back finds it for all packets, as the square of a sum of the changes with random weights, drawn from `seed`: the
        average over seeds is right, a single one is rough.
        """
        import torch

        sources, outputs = self._run(chi)
        told = graded(self.head, outputs)
        told = told / (told.detach().norm() + LEAST)
        weights = torch.randn(told.shape, generator=torch.Generator().manual_seed(seed))
        return np.square(packet_sums(self._back((told * weights).sum(), sources) * deviations, grid))

    def _run(self, chi: Floats) -> tuple[list[Tensor], list[Tensor]]:
        """Return the tensors at the cut, and the outputs that follow from them."""
        import torch

        at_cut = [torch.from_numpy(one).requires_grad_() for one in apart(self.cut.carried, chi)]
        there = {one.name: tensor for one, tensor in zip(self.cut.carried, at_cut, strict=True)}
        return at_cut, self._nodes.all(there, self._outputs)

    def _back(self, value: Tensor, sources: list[Tensor]) -> Floats:
        import torch

        found = torch.autograd.grad(value, sources, materialize_grads=True)
        scaled = [one.numpy() * carried.scale**2 for one, carried in zip(found, self.cut.carried, strict=True)]
        return together(self.cut.carried, scaled)  # which divides by the scale: in chi, a tensor is divided by it


def graded(head: Head, outputs: Sequence[Tensor]) -> Tensor:
    """Return what an answer is made of: probabilities of classes, scores of candidates for boxes, or all outputs."""
    import torch

    if isinstance(head, Detect):
        return head.layout.all_scores(outputs)
    if isinstance(head, Classify):
        return outputs[0].flatten().softmax(0) if head.logits else outputs[0].flatten()
    return torch.cat([output.flatten() for output in outputs])


def explained(head: Head, outputs: Sequence[Tensor]) -> Tensor:
    """Return the number that stands for an answer.

    For classes the likeliest one's logit or, if only probabilities are there, the logarithm of its own. For boxes the
    sum of the logits of all candidates that are likely enough, or else of the likeliest. For anything else the sum of
    the squared outputs.
    """
    if isinstance(head, Classify):
        return outputs[0].max() if head.logits else outputs[0].max().log()
    if isinstance(head, Detect):
        scores = head.layout.all_scores(outputs)
        return scores[scores >= min(head.score, scores.max().item())].logit(SURE).sum()
    return sum(output.square().sum() for output in outputs)
