"""The plan's measurements: time at both ends, bytes on the wire, and the answers that losses leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradfec_common.delivery import packets_at_hand
from gradfec_common.errors import GradfecError
from gradfec_common.heads import Answer, agreement
from gradfec_common.networks import Cut, Network
from gradfec_common.networks.pixels import normalise
from gradfec_common.preprocess import to_input
from gradfec_common.protect import LinkEstimate
from gradfec_common.protect.link import LEAST, Losses
from gradfec_common.splits import Kept, Way
from gradfec_common.transmit import EncodedTensor
from gradfec_edge.adaptation import UDP_HEADER_BYTES
from gradfec_edge.coding import Coding
from gradfec_edge.design import Design
from gradfec_edge.frontend import Features
from gradfec_host.codec_file import trained
from gradfec_host.models import Model
from gradfec_host.weights import Weights
from gradfec_host.weights.progress import show_progress
from gradfec_lab.plan.candidates import Candidate
from gradfec_lab.sweep.ends import delivered
from gradfec_lab.sweep.losses import IID, loss_model

DRAWS = 2  # of the losses, for each picture
TURNS = 3
USUAL_LOSS = 0.02  # for which frames are coded if only the time counts
CLEARLY, CLEARLY_S = 0.2, 0.001  # a time is less by this share, and by this much more

Floats = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]
Advance = Callable[[int], object]  # by a number of pictures
Stores = Mapping[Network, Weights | Model]


class EdgeHalf:
    """The edge's work for all designs of one front-end, timed."""

    def __init__(self, design: Design, runtime: str, stores: Stores) -> None:
        """Load the front-end; takes a moment."""
        self._preprocess, self._estimator = design.coding.cut.network.preprocess, design.free
        self._front_end = design.load(runtime, stores)
        self._front_end.warm_up()
        self.layers_s: list[float] = []  # that the layers alone took, for each picture

    def features(self, picture: Picture) -> tuple[Features, float]:
        """Return the features of a BGR picture (h, w, 3) of any size, to be coded, and the seconds that they took."""
        start = time.perf_counter()
        image = to_input(picture, self._preprocess)
        begun = time.perf_counter()
        found = self._front_end(image)
        self.layers_s.append(time.perf_counter() - begun)
        if self._estimator:
            found = found._replace(scores=self._estimator(image, found.chi))
        return found, time.perf_counter() - start

    @staticmethod
    def coded(coding: Coding, features: Features, loss: float) -> tuple[EncodedTensor, float]:
        """Return the datagrams for a link that loses the share `loss`, and the seconds that coding took."""
        chi, scores, damage = features
        assert scores is not None, "an edge ranks packets"  # noqa: S101
        start = time.perf_counter()
        return coding.encode(chi, scores, damage, link_that_loses(loss), map), time.perf_counter() - start


class CloudHalf:
    """The cloud's work for one cut."""

    def __init__(self, cut: Cut, runtime: str, stores: Stores) -> None:
        """Load the back-end; takes a moment."""
        from gradfec_cloud.backend import load_back_end
        from gradfec_cloud.catalogue import Catalogue
        from gradfec_common.conceal import DEFAULT_CONCEALMENT

        self._cut = cut
        self._back_end = load_back_end(runtime, cut, stores[cut.network], 1)
        self._back_end.warm_up()
        self._conceal = Catalogue.of([cut], DEFAULT_CONCEALMENT).concealments[cut]

    def received(self, coding: Coding, encoded: EncodedTensor, arrived: npt.NDArray[np.bool_]) -> Answer | None:
        """Return the answer to the datagrams that arrived (sent,), at least one, as `answer` does."""
        return self.answer(delivered(encoded, arrived, coding.grid, self._conceal))

    def answer(self, tensor: Floats) -> Answer | None:
        """Return the answer to a tensor (H, W, C); None if the network overflows on it."""
        from gradfec_cloud.catalogue import answer_at

        try:
            return answer_at(self._cut, self._back_end(tensor[np.newaxis])[0])
        except ValueError:
            return None


class Trial(NamedTuple):
    """One picture by one candidate: seconds at each end, and for each loss the bytes and the agreement."""

    edge_s: list[float]
    cloud_s: list[float]
    kept: list[tuple[float, float]]


def link_that_loses(loss: float) -> LinkEstimate:
    """Return the estimate for a link that loses independently of what it has lost before."""
    return LinkEstimate(((1.0, Losses(max(loss, LEAST), 1 / (1 - loss))),))


def stores_of(found: Iterable[Candidate]) -> Stores:
    """Open what the halves are built from; GradfecError if it cannot be had."""
    with show_progress() as fetching:
        networks = dict.fromkeys(one.design.coding.cut.network for one in found)
        return {network: trained(network, None, fetching) for network in networks}


def uncut_answers(network: Network, pictures: Iterable[Picture], runtime: str, stores: Stores) -> list[Answer]:
    """Return the uncut network's answer to each BGR picture; GradfecError if it overflows on one."""
    uncut, found = CloudHalf(network.cuts[0], runtime, stores), []
    for number, picture in enumerate(pictures, 1):
        answer = uncut.answer(normalise(to_input(picture, network.preprocess), network.preprocess))
        if answer is None:
            raise GradfecError(f"{network.name} itself overflows on photograph {number}: is it fed as it was trained?")
        found.append(answer)
    return found


def edge_times(
    found: Sequence[Candidate], pictures: Sequence[Picture], runtime: str, stores: Stores, advance: Advance
) -> list[float]:
    """Return the seconds that each candidate takes of the edge."""
    times: dict[Candidate, list[list[float]]] = {one: [] for one in found}
    for numbers, some in _turns(found, len(pictures)):
        edge = EdgeHalf(some[0].design, runtime, stores)
        for one in some:
            times[one].append([])
        for number in numbers:
            features, seconds = edge.features(pictures[number])
            for one in some:
                times[one][-1].append(seconds + edge.coded(one.design.coding, features, USUAL_LOSS)[1])
                advance(1)
    return [_usual(times[one]) for one in found]


def measured(
    found: Sequence[Candidate],
    pictures: Sequence[Picture],
    reference: Sequence[Answer],
    losses: Sequence[float],
    runtime: str,
    stores: Stores,
    advance: Advance,
) -> tuple[list[Way], dict[str, float]]:
    """Return what was measured of each candidate, and the seconds that the layers alone took, by the cut's name."""
    trials: dict[Candidate, list[list[Trial]]] = {one: [] for one in found}
    layers_s: dict[str, list[list[float]]] = {}
    for numbers, some in _turns(found, len(pictures)):
        edge = EdgeHalf(some[0].design, runtime, stores)
        cloud = CloudHalf(some[0].design.coding.cut, runtime, stores)
        for one in some:
            trials[one].append([])
        for number in numbers:
            features, seconds = edge.features(pictures[number])
            for one in some:
                trial = _trial(one.design.coding, features, seconds, cloud, reference[number], losses, number)
                trials[one][-1].append(trial)
                advance(1)
        if some[0].quality is None:  # a bottleneck's encoder takes time, too
            layers_s.setdefault(some[0].cut.name, []).append(edge.layers_s)
    ways = [_way(one, trials[one], losses) for one in found]
    return ways, {cut: _usual(turns) for cut, turns in layers_s.items()}


def disturbed(layers_s: Mapping[str, float]) -> str:
    """Say that a cut's layers took clearly less than those of an earlier one, which are a part of them; or nothing.

    `layers_s` has the seconds by the cut's name, in the order of the cuts.
    """
    slowest, most_s = "", 0.0
    for cut, seconds in layers_s.items():
        if seconds < (1 - CLEARLY) * most_s - CLEARLY_S:
            return (
                f"the layers up to {cut} took {1000 * seconds:.0f} ms, and those up to {slowest}, a part of them, "
                f"{1000 * most_s:.0f} ms: this machine was busy with something else, so measure again"
            )
        if seconds > most_s:
            slowest, most_s = cut, seconds
    return ""


def _turns(found: Sequence[Candidate], count: int) -> Iterator[tuple[range, list[Candidate]]]:
    """Yield numbers of pictures, and candidates of one front-end to try them with.

    All front-ends take several turns, each with other pictures, so that conditions that change are alike for all. They
    are loaded again each time: a small board has no room for all of them.
    """
    turns = min(TURNS, count)
    for turn in range(turns):
        for _, alike in groupby(found, key=lambda one: one.design.graph):
            yield range(turn, count, turns), [*alike]


def _trial(
    coding: Coding,
    features: Features,
    features_s: float,
    cloud: CloudHalf,
    right: Answer,
    losses: Sequence[float],
    number: int,
) -> Trial:
    trial = Trial([], [], [])
    for loss in losses:
        encoded, seconds = EdgeHalf.coded(coding, features, loss)
        trial.edge_s.append(features_s + seconds)
        plan, known, agreed = encoded.plan, dict[bytes, float](), []
        size = plan.unasked * (encoded.datagram_bytes + UDP_HEADER_BYTES)
        for draw in range(DRAWS if loss else 1):
            rng = np.random.default_rng([number, draw, round(1e6 * loss)])
            arrived = np.zeros(plan.sent, bool)
            arrived[: plan.unasked] = ~loss_model(IID, loss, rng).draw(plan.unasked)
            if not arrived.any():
                agreed.append(0.0)
                continue
            pattern = packets_at_hand(plan, arrived).tobytes()
            if pattern not in known:
                start = time.perf_counter()
                answer = cloud.received(coding, encoded, arrived)
                trial.cloud_s.append(time.perf_counter() - start)
                known[pattern] = 0.0 if answer is None else agreement(right, answer)
            agreed.append(known[pattern])
        trial.kept.append((size, float(np.mean(agreed))))
    return trial


def _way(one: Candidate, turns: Sequence[Sequence[Trial]], losses: Sequence[float]) -> Way:
    kept = np.mean([trial.kept for turn in turns for trial in turn], axis=0).round(6).tolist()  # -> (losses, 2)
    return Way(
        one.cut.name,
        one.codec,
        one.quality,
        _usual([second for trial in turn for second in trial.edge_s] for turn in turns),
        _usual([second for trial in turn for second in trial.cloud_s] for turn in turns),
        tuple(Kept(loss, *pair) for loss, pair in zip(losses, kept, strict=True)),
    )


def _usual(turns: Iterable[Sequence[float]]) -> float:
    """Return the median seconds of the best turn: whatever else the machine does only adds to a time."""
    return round(min((float(np.median(turn)) for turn in turns if turn), default=0.0), 6)
