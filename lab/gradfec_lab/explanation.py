"""One photograph explained: its features, what each packet matters, and what a plan's drop does to the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_cloud.labels import labels
from gradfec_common.network import SplitPoint
from gradfec_common.packets import PacketGrid
from gradfec_common.plan import Plan, Scheme
from gradfec_common.quantise import dequantise, quantise
from gradfec_common.quiet import quiet_tensorflow
from gradfec_common.weights import WeightStore
from gradfec_edge.compensation import compensated
from gradfec_lab.oracle import ORACLE

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Answer(NamedTuple):
    """A class of the network's, and the probability that it gives it."""

    class_index: int
    label: str
    probability: float

    def __str__(self) -> str:
        return f"{self.label.replace('_', ' ')} {self.probability:.2f}"


@dataclass(frozen=True)
class Ranking:
    """One estimator's scores (packets,), the plan by them, and the network's answer to what that plan keeps."""

    name: str
    scores: Floats
    plan: Plan
    answer: Answer


@dataclass(frozen=True)
class Explanation:
    """All that can be shown of an image (224, 224, 3) RGB with features chi (H, W, C).

    `lossless` is the network's answer, `explained` the class whose importance the oracle computes: the same, unless
    another was asked for. The oracle's is the first of the rankings.
    """

    image: Image
    chi: Floats
    split: SplitPoint
    grid: PacketGrid
    scheme: str
    lossless: Answer
    explained: Answer
    rankings: list[Ranking]

    def verdict(self, ranking: Ranking) -> str:
        """Say whether the answer stands when the network gets only what the plan by `ranking` keeps."""
        stands = ranking.answer.class_index == self.lossless.class_index
        return f"{'still' if stands else 'now'} {ranking.answer}"


def explain(
    image: Image,
    estimators: Sequence[str],
    scheme: Scheme,
    label: int | None,
    split: SplitPoint,
    grid: PacketGrid,
    weights: WeightStore,
    seed: int,
) -> Explanation:
    """Run network, oracle and estimators on an RGB image (224, 224, 3), and plan by each; imports TensorFlow.

    The oracle explains class `label`, or else the network's own answer.
    """
    with quiet_tensorflow():
        from gradfec_edge.importance.free import packet_sums
        from gradfec_lab.gradcam import GradCam
        from gradfec_lab.scores import Scores

    chi, by_name, damages = Scores(estimators, split, grid, weights, seed)(image[np.newaxis])
    oracle = GradCam(split, weights)
    truth = oracle(chi, None if label is None else np.array([label]))
    scores = {ORACLE: packet_sums(truth.elements[0], grid)}
    scores |= {name: of_batch[0] for name, of_batch in by_name.items()}
    plans = {name: scheme.plan(of_packets) for name, of_packets in scores.items()}
    sent = [
        compensated(chi[0], damages[name][0], plan.dropped, grid) if name in damages else chi[0]
        for name, plan in plans.items()
    ]
    received = [kept(features, plan, grid) for features, plan in zip(sent, plans.values(), strict=True)]
    logits = oracle.model(np.stack(received), training=False).numpy()
    answers = [answer(z) for z in logits]
    return Explanation(
        image,
        chi[0],
        split,
        grid,
        scheme.name,
        lossless=answer(truth.logits[0]),
        explained=answer(truth.logits[0], int(truth.classes[0])),
        rankings=[Ranking(*each) for each in zip(scores, scores.values(), plans.values(), answers, strict=True)],
    )


def kept(chi: Floats, plan: Plan, grid: PacketGrid) -> Floats:
    """Return chi (H, W, C) as the cloud has it when nothing is lost: quantised, 0 where the plan drops."""
    packets = grid.split(dequantise(*quantise(chi)))
    packets[plan.dropped] = 0
    return grid.join(packets)


def answer(logits: Floats, class_index: int | None = None) -> Answer:
    """Return the likeliest class of logits (1000,), or class `class_index`, with its probability."""
    likelihoods = np.exp(logits - logits.max())
    chosen = int(logits.argmax()) if class_index is None else class_index
    return Answer(chosen, labels()[chosen], float(likelihoods[chosen] / likelihoods.sum()))
