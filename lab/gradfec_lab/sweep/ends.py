"""Both ends of a coding: the edge's front-end with its estimator, and the cloud's decoder with its back-end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.conceal import Concealment
from gradfec_common.decode import decode_tensor
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK
from gradfec_common.reassembly import Reassembly
from gradfec_common.transmit import EncodedTensor
from gradfec_edge.coding import Coding
from gradfec_edge.frontend import Features, FrontEnd
from gradfec_edge.importance import Estimator
from gradfec_lab.sweep.codecs import Codec
from gradfec_lab.sweep.engine import BATCH

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]


class Ends(Protocol):
    """What the networks of edge and cloud make of a picture; `fingerprints` say by name what that depends on."""

    conceal: Concealment
    fingerprints: dict[str, str]

    def features(self, image: Image) -> Features:
        """Return the tensor of an RGB image (side, side, 3), with its packets' importance."""

    def classes(self, tensors: Iterable[Floats]) -> Iterator[int]:
        """Yield the class of each tensor that the cloud has decoded."""

    def answers(self, tensors: Iterable[Floats]) -> Iterator[tuple[int, float]]:
        """Yield the class of each tensor that the cloud has decoded, and its score."""


class Answering(Protocol):
    """The back-end: `gradfec_lab.answers.Answers`."""

    def likeliest(self, chi: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
        """Return the classes (N,) of chi (N, H, W, C), and their probabilities (N,)."""


class NetworkEnds:
    """The real front-end, estimator and back-end."""

    def __init__(
        self,
        front_end: FrontEnd,
        estimator: Estimator | None,
        model: Answering,
        conceal: Concealment,
        fingerprints: dict[str, str],
    ) -> None:
        """Without an `estimator`, the front-end has one in its graph."""
        self._front_end, self._estimator, self._model = front_end, estimator, model
        self.conceal, self.fingerprints = conceal, fingerprints

    def features(self, image: Image) -> Features:
        """See Ends."""
        features = self._front_end(image)
        return features if self._estimator is None else features._replace(scores=self._estimator(image, features.chi))

    def classes(self, tensors: Iterable[Floats]) -> Iterator[int]:
        """See Ends."""
        return (index for index, _ in self.answers(tensors))

    def answers(self, tensors: Iterable[Floats]) -> Iterator[tuple[int, float]]:
        """See Ends; full batches are run together."""
        waiting = iter(tensors)
        while batch := [*islice(waiting, BATCH)]:
            classes, scores = self._model.likeliest(np.stack(batch))  # n x (H, W, C) -> (n, H, W, C)
            yield from zip(classes.tolist(), scores.tolist(), strict=True)


def load_ends(coding: Coding, importance: str | None = None) -> Ends:
    """Load the networks of a coding, with its default estimator unless `importance` names one. Takes seconds."""
    from gradfec_cloud.catalogue import Catalogue
    from gradfec_edge.frontend import load_front_end
    from gradfec_edge.frontend.nothing import NoFrontEnd
    from gradfec_edge.importance import EstimatorFile, default_estimator, make_estimator
    from gradfec_host.codec_file import weights_of
    from gradfec_host.runtimes import choose_runtime
    from gradfec_host.weights import WeightStore
    from gradfec_host.weights.progress import show_progress
    from gradfec_lab.answers import fastest_answers

    cut, grid = coding.cut, coding.grid
    with show_progress() as progress:
        weights = weights_of(cut.network, None, progress)
    importance = importance or default_estimator(cut, grid, coding.quantiser.needs)
    estimator = make_estimator(importance, cut, grid, np.random.default_rng(0))
    proxy = estimator if isinstance(estimator, EstimatorFile) else None
    front_end: FrontEnd = NoFrontEnd(cut.network.preprocess)
    if cut.front_layers or proxy:
        front_end = load_front_end(choose_runtime(), cut, weights, proxy)
    fingerprints = {importance: proxy.digest} if proxy else {}
    if isinstance(weights, WeightStore):
        fingerprints["the weights"] = weights.verification.value
    return NetworkEnds(
        front_end,
        None if isinstance(estimator, EstimatorFile) else estimator,
        fastest_answers(cut, weights),
        Catalogue.of([cut], "zero").concealments[cut],
        fingerprints,
    )


def ends_of(codecs: Iterable[Codec]) -> dict[str, Ends]:
    """Load the ends of codecs, by their places."""
    return {place: load_ends(coding) for place, coding in {codec.place: codec.coding for codec in codecs}.items()}


def received(encoded: EncodedTensor, arrived: Mask, grid: PacketGrid) -> Reassembly:
    """Return what the cloud has of a tensor of which some datagrams `arrived` (sent,), at least one."""
    bodies = encoded.bodies(0)[arrived]
    tensor = Reassembly(bodies[0].tobytes(), grid)
    refused = tensor.add(bodies)
    assert not refused, "a datagram of ours that the cloud refuses"  # noqa: S101
    return tensor


def sent_whole(coding: Coding, features: Features, ends: Ends) -> tuple[Floats, int]:
    """Return what the cloud decodes of features, nothing lost, and the bytes of UDP payload that they took."""
    assert features.scores is not None, "ends rank packets"  # noqa: S101
    encoded = coding.encode(features.chi, features.scores, features.damage, UNKNOWN_LINK, map)
    return delivered(encoded, np.ones(encoded.plan.sent, bool), coding.grid, ends.conceal), encoded.wire_bytes


def delivered(encoded: EncodedTensor, arrived: Mask, grid: PacketGrid, conceal: Concealment) -> Floats:
    """Return the tensor that the cloud decodes from the datagrams that `arrived` (sent,), at least one."""
    return decode_tensor(received(encoded, arrived, grid), conceal).tensor
