"""One photograph explained: its features, what each packet matters, what a plan drops, and what a link loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_cli.channel import ChannelSettings, loss_model
from gradfec_cli.experiment import Link
from gradfec_cli.loss_models import Mask
from gradfec_cli.oracle import ORACLE
from gradfec_cloud.labels import labels_of
from gradfec_common.delivery import packets_arrived, packets_at_hand
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid
from gradfec_common.plan import NoProtection, Plan, Scheme
from gradfec_common.quantise import dequantise, quantise
from gradfec_edge.compensation import compensated
from gradfec_host.quiet import quiet_tensorflow
from gradfec_host.weights import WeightStore

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
class Delivery:
    """What a lossy link leaves of a plan's packets (packets,): those that came themselves, and all that are at hand.

    The latter are the former and those that parity gave back; `answer` is the network's to them.
    """

    came: Mask
    at_hand: Mask
    answer: Answer


@dataclass(frozen=True)
class Ranking:
    """One estimator's scores (packets,), the plan by them, and the network's answer to what that plan keeps.

    With a link, also what it delivers of that.
    """

    name: str
    scores: Floats
    plan: Plan
    answer: Answer
    delivery: Delivery | None = None


@dataclass(frozen=True)
class Losses:
    """What a link loses: which datagrams (sent,), in the order of sending, and the answer if all packets go bare."""

    link: Link
    lost: Mask
    bare: Answer

    def __str__(self) -> str:
        burst = f" in bursts of {self.link.burst:g}" if self.link.burst else ""
        return f"{100 * self.link.loss:g} % loss{burst}"


@dataclass(frozen=True)
class Explanation:
    """All that can be shown of an image (side, side, 3) RGB with features chi (H, W, C).

    `lossless` is the network's answer, `explained` the class whose importance the oracle computes: the same, unless
    another was asked for. The oracle's is the first of the rankings.
    """

    image: Image
    chi: Floats
    cut: Cut
    grid: PacketGrid
    scheme: str
    lossless: Answer
    explained: Answer
    rankings: list[Ranking]
    losses: Losses | None = None

    def verdict(self, answer: Answer) -> str:
        """Say whether the lossless answer stands."""
        return f"{'still' if answer.class_index == self.lossless.class_index else 'now'} {answer}"


def explain(
    image: Image,
    estimators: Sequence[str],
    scheme: Scheme,
    label: int | None,
    cut: Cut,
    grid: PacketGrid,
    weights: WeightStore,
    seed: int,
    link: Link | None = None,
) -> Explanation:
    """Run network, oracle and estimators on an RGB image (side, side, 3), and plan by each; imports TensorFlow.

    With a `link`, each plan's datagrams go over it: the i-th of each is lost, or none of them.

    The oracle explains class `label`, or else the network's own answer.
    """
    with quiet_tensorflow():
        from gradfec_cli.gradcam import GradCam
        from gradfec_cli.scores import Scores
        from gradfec_edge.importance.free import packet_sums

    chi, by_name, damages = Scores(estimators, cut, grid, weights, seed)(image[np.newaxis])
    oracle, labels = GradCam(cut, weights), labels_of(cut.network)
    truth = oracle(chi, None if label is None else np.array([label]))
    scores = {ORACLE: packet_sums(truth.elements[0], grid)}
    scores |= {name: of_batch[0] for name, of_batch in by_name.items()}
    plans = [scheme.plan(of_packets) for of_packets in scores.values()]
    packets = [
        grid.split(dequantise(*quantise(compensated(chi[0], damages[name][0], plan.dropped, grid))))
        if name in damages
        else grid.split(dequantise(*quantise(chi[0])))
        for name, plan in zip(scores, plans, strict=True)
    ]

    def answers(of: Sequence[Floats], at_hand: Sequence[Mask]) -> list[Answer]:
        received = [grid.join(np.where(there[:, None], rows, 0)) for rows, there in zip(of, at_hand, strict=True)]
        return [answer(z, labels) for z in oracle.model(np.stack(received), training=False).numpy()]

    by_plan = answers(packets, [kept(plan) for plan in plans])
    deliveries: list[Delivery | None] = [None for _ in plans]
    losses = None
    if link is not None:
        lost = lost_by(link, max(grid.count, *(plan.sent for plan in plans)))
        came = [packets_arrived(plan, ~lost[: plan.sent]) for plan in plans]
        at_hand = [packets_at_hand(plan, ~lost[: plan.sent]) for plan in plans]
        deliveries = [Delivery(*each) for each in zip(came, at_hand, answers(packets, at_hand), strict=True)]
        bare = NoProtection().plan(next(iter(scores.values())))
        as_it_is = grid.split(dequantise(*quantise(chi[0])))
        [unprotected] = answers([as_it_is], [packets_at_hand(bare, ~lost[: bare.sent])])
        losses = Losses(link, lost[: plans[0].sent], unprotected)
    return Explanation(
        image,
        chi[0],
        cut,
        grid,
        scheme.name,
        lossless=answer(truth.logits[0], labels),
        explained=answer(truth.logits[0], labels, int(truth.classes[0])),
        rankings=[Ranking(*each) for each in zip(scores, scores.values(), plans, by_plan, deliveries, strict=True)],
        losses=losses,
    )


def kept(plan: Plan) -> Mask:
    """Return the packets (total,) that the cloud has when nothing is lost."""
    mask = np.ones(plan.total, bool)
    mask[plan.dropped] = False
    return mask


def lost_by(link: Link, count: int) -> Mask:
    """Return which of so many datagrams a link loses, as gradfec-netem would with the same parameters."""
    burst = link.burst if link.loss else None
    return loss_model(ChannelSettings(loss=link.loss, burst=burst), np.random.default_rng(link.seed)).draw(count)


def answer(logits: Floats, labels: Sequence[str], class_index: int | None = None) -> Answer:
    """Return the likeliest class of logits (classes,), or class `class_index`, with its probability."""
    likelihoods = np.exp(logits - logits.max())
    chosen = int(logits.argmax()) if class_index is None else class_index
    return Answer(chosen, labels[chosen], float(likelihoods[chosen] / likelihoods.sum()))
