"""One photograph explained: its features, how much each packet matters, what a plan drops, and what a link loses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gradfec_cli.channel import ChannelSettings, loss_model
from gradfec_cli.experiment import Link
from gradfec_cli.loss_models import Mask
from gradfec_cli.oracle import ORACLE
from gradfec_cloud.backend import load_back_end
from gradfec_cloud.labels import labels_of
from gradfec_common import heads
from gradfec_common.conceal import make_concealment
from gradfec_common.delivery import packets_arrived, packets_at_hand, tensor_at_hand
from gradfec_common.errors import UsageError
from gradfec_common.heads import Classes, agreement
from gradfec_common.heads.classify import label_of
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, NoProtection, Plan
from gradfec_common.quantisers import Coded
from gradfec_edge.coding import Coding
from gradfec_edge.frontend import load_front_end
from gradfec_edge.importance import EstimatorFile, make_estimator
from gradfec_edge.importance.free import packet_sums
from gradfec_host.models import Model
from gradfec_host.quiet import quiet_tensorflow
from gradfec_host.runtimes import ONNX
from gradfec_host.weights import WeightStore

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """What the network says, in the figure's words."""

    said: heads.Answer

    def __str__(self) -> str:
        return self.said.summary().replace("_", " ")


@dataclass(frozen=True)
class Delivery:
    """What a lossy link delivers of a plan's packets (packets,): `came` arrived, `at_hand` arrived or were recovered.

    `answer` is the network's answer to those at hand.
    """

    came: Mask
    at_hand: Mask
    answer: Answer


@dataclass(frozen=True)
class Ranking:
    """One estimator's scores (packets,), the plan made from them, and the network's answer to the kept packets.

    `delivery` is what the link delivers of them, if there is a link.
    """

    name: str
    scores: Floats
    plan: Plan
    answer: Answer
    delivery: Delivery | None = None


@dataclass(frozen=True)
class Losses:
    """What a link loses: which datagrams (sent,), in send order.

    `bare` is the network's answer if every packet is sent over the same link without protection.
    """

    link: Link
    lost: Mask
    bare: Answer

    def __str__(self) -> str:
        burst = f" in bursts of {self.link.burst:g}" if self.link.burst else ""
        return f"{100 * self.link.loss:g} % loss{burst}"


@dataclass(frozen=True)
class Explanation:
    """Everything to show for an RGB image (side, side, 3) with features chi (H, W, C).

    `lossless` is the network's answer. `explained` is the class that the oracle explains: the same class, unless the
    user chose another. The first ranking is the oracle's, if the network has a gradient here.
    """

    image: Image
    chi: Floats
    coding: Coding
    lossless: Answer
    explained: Answer
    rankings: list[Ranking]
    losses: Losses | None = None

    @property
    def grid(self) -> PacketGrid:
        """How the features are divided into packets."""
        return self.coding.grid

    @property
    def policy(self) -> str:
        """The policy's name."""
        return self.coding.policy.name

    def verdict(self, answer: Answer) -> str:
        """Say whether the answer is still the lossless one; of boxes, how many there are, and their F1 against it."""
        same = agreement(self.lossless.said, answer.said)
        if (boxes := answer.said.boxes()) is not None:
            return f"{len(boxes)} {'box' if len(boxes) == 1 else 'boxes'}, F1 {same:.2f}"
        return f"{'still' if same == 1 else 'now'} {answer}"


def explain(
    weights: WeightStore,
    label: int | None,
    image: Image,
    estimators: Sequence[str],
    coding: Coding,
    seed: int,
    link: Link | None = None,
) -> Explanation:
    """Run network, oracle and estimators on an RGB image (side, side, 3), and make each one's plan; imports TensorFlow.

    The oracle explains class `label`, or the network's own answer. With a `link`, each plan's datagrams cross it with
    the same losses: it loses the i-th of every plan, or of none.
    """
    with quiet_tensorflow():
        from gradfec_cli.gradcam import GradCam
        from gradfec_cli.scores import Scores

    cut, grid = coding.cut, coding.grid
    chi, by_name, damages = Scores(estimators, cut, grid, weights, seed)(image[np.newaxis])
    oracle, labels = GradCam(cut, weights), labels_of(cut.network)
    truth = oracle(chi, None if label is None else np.array([label]))
    scores = {ORACLE: packet_sums(truth.elements[0], grid)}
    scores |= {name: of_batch[0] for name, of_batch in by_name.items()}
    explained = answer(truth.logits[0], labels, int(truth.classes[0]))

    def ask(received: Floats) -> list[Answer]:
        return [answer(z, labels) for z in oracle.model(received, training=False).numpy()]

    forms = {name: of_batch[0] for name, of_batch in damages.items()}
    return _explained(image, chi[0], coding, scores, forms, ask, explained, link)


def explain_imported(
    model: Model,
    oracle: Callable[[Floats], Floats] | None,
    image: Image,
    estimators: Sequence[str],
    coding: Coding,
    seed: int,
    link: Link | None = None,
) -> Explanation:
    """Run an imported network and estimators as `explain` does.

    The `oracle` finds how much each element of chi (H, W, C) matters. There is none if there is no gradient.
    UsageError for an estimator that runs in a built-in network.
    """
    cut = coding.cut
    front_end, back_end = load_front_end(ONNX, cut, model), load_back_end(ONNX, cut, model, 1)
    chi = front_end(image).chi
    scores = {} if oracle is None else {ORACLE: packet_sums(oracle(chi), coding.grid)}
    for name in estimators:
        estimator = make_estimator(name, cut, coding.grid, np.random.default_rng(seed))
        if isinstance(estimator, EstimatorFile):
            raise UsageError(f"--importance {name} is a proxy, which runs in a built-in network: use activation")
        scores[name] = estimator(image, chi)

    def ask(received: Floats) -> list[Answer]:
        outputs = [back_end(one[np.newaxis])[0] for one in received]
        return [Answer(cut.network.head.answer(output, labels_of(cut.network))) for output in outputs]

    return _explained(image, chi, coding, scores, {}, ask, None, link)


def _explained(
    image: Image,
    chi: Floats,
    coding: Coding,
    scores: Mapping[str, Floats],
    damages: Mapping[str, Floats],
    ask: Callable[[Floats], list[Answer]],
    explained: Answer | None,
    link: Link | None,
) -> Explanation:
    """Plan by each of the scores, and `ask` the network what it says of what arrives (N, H, W, C)."""
    cut, grid = coding.cut, coding.grid
    conceal = make_concealment("zero", cut, {})
    lossless = ask(chi[np.newaxis])[0]

    def planned(by: Coding, name: str) -> tuple[Plan, Coded]:
        return by.packets(chi, scores[name], damages.get(name), UNKNOWN_LINK)

    def answers(sent: Sequence[Coded], at_hand: Sequence[Mask]) -> list[Answer]:
        received = [
            tensor_at_hand(coded, there, coding.quantiser, conceal, grid)
            for coded, there in zip(sent, at_hand, strict=True)
        ]
        return ask(np.stack(received))

    plans, sent = zip(*(planned(coding, name) for name in scores), strict=True)
    by_plan = answers(sent, [kept(plan) for plan in plans])
    deliveries: list[Delivery | None] = [None for _ in plans]
    losses = None
    if link is not None:
        bare, all_sent = planned(replace(coding, policy=NoProtection()), next(iter(scores)))
        lost = lost_by(link, max(bare.sent, *(plan.sent for plan in plans)))
        came = [packets_arrived(plan, ~lost[: plan.sent]) for plan in plans]
        at_hand = [packets_at_hand(plan, ~lost[: plan.sent]) for plan in plans]
        deliveries = [Delivery(*each) for each in zip(came, at_hand, answers(sent, at_hand), strict=True)]
        [unprotected] = answers([all_sent], [packets_at_hand(bare, ~lost[: bare.sent])])
        losses = Losses(link, lost[: plans[0].sent], unprotected)
    return Explanation(
        image,
        chi,
        coding,
        lossless=lossless,
        explained=explained or lossless,
        rankings=[Ranking(*each) for each in zip(scores, scores.values(), plans, by_plan, deliveries, strict=True)],
        losses=losses,
    )


def kept(plan: Plan) -> Mask:
    """Return the packets (total,) that the cloud has if nothing is lost."""
    mask = np.ones(plan.total, bool)
    mask[plan.dropped] = False
    return mask


def lost_by(link: Link, count: int) -> Mask:
    """Return which of `count` datagrams a link loses, as gradfec-netem would with the same parameters."""
    burst = link.burst if link.loss else None
    return loss_model(ChannelSettings(loss=link.loss, burst=burst), np.random.default_rng(link.seed)).draw(count)


def answer(logits: Floats, labels: Sequence[str], class_index: int | None = None) -> Answer:
    """Return the most likely class of logits (classes,), or class `class_index`, with its probability."""
    likelihoods = np.exp(logits - logits.max())
    chosen = int(logits.argmax()) if class_index is None else class_index
    probability = float(likelihoods[chosen] / likelihoods.sum())
    return Answer(Classes(((chosen, label_of(chosen, labels), probability),)))
