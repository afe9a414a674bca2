"""What a cloud serves: for each cut a back-end, a concealment, and the head and labels of its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud.backend import load_back_end
from gradfec_cloud.labels import labels_of
from gradfec_cloud.workers.pool import Loaders, back_end_name
from gradfec_common.conceal import Concealment, make_concealment
from gradfec_common.errors import UsageError
from gradfec_common.heads import Answer
from gradfec_common.networks import DEFAULT_CUT, DEFAULT_NETWORK, Cut, Network, named_cut, named_network
from gradfec_host.codec_file import CodecFile, shipped_codec
from gradfec_host.learned import learned_for
from gradfec_host.tuned import BackEndFile, TunedWeights, chosen_back_ends
from gradfec_host.weights import Weights

MASK = "mask"  # the concealment for decoders, which have learned to fill gaps themselves


def named_cuts(text: str) -> list[Cut]:
    """Read cuts, separated by commas; UsageError if one does not exist, or is named twice."""
    cuts = [named_cut(name.strip()) for name in text.split(",")]
    for number, cut in enumerate(cuts):
        if cut in cuts[:number]:
            raise UsageError(f"--split names {cut.name} twice")
    return cuts


@dataclass(frozen=True)
class Catalogue:
    """The cuts that are served, at least one, and how the gaps in the tensors of each are filled.

    `tuned` has the cuts whose back-ends are tuned to gaps.
    """

    cuts: Sequence[Cut]
    concealments: Mapping[Cut, Concealment]
    tuned: Mapping[Cut, BackEndFile] = field(default_factory=dict)

    @classmethod
    def of(cls, cuts: Sequence[Cut], fill: str) -> Catalogue:
        """Fill gaps by the concealment called `fill`; UsageError if it is not for one of the cuts."""
        return cls(cuts, {cut: make_concealment(MASK if cut.masked else fill, cut, learned_for(cut)) for cut in cuts})

    @classmethod
    def default(cls, fill: str, codecs: Sequence[CodecFile] = ()) -> Catalogue:
        """Serve the default cut, and the default network's input for edges that send pictures, where a gap becomes 0.

        And the latents of bottlenecks, the one that is shipped and those of `codecs`. UsageError if `fill` is not for
        the default cut.
        """
        usual = cls.of([named_cut(DEFAULT_CUT), *latents([named_cut(DEFAULT_CUT)], codecs)], fill)
        pictures = cls.of([named_cut(named_network(DEFAULT_NETWORK).input.name)], "zero")
        return cls([*usual.cuts, *pictures.cuts], {**usual.concealments, **pictures.concealments})

    @property
    def networks(self) -> list[Network]:
        """The networks, each once."""
        return [*dict.fromkeys(cut.network for cut in self.cuts)]

    def loaders(self, runtime: str, weights: Mapping[Network, Weights], max_batch: int) -> Loaders:
        """Return a function for each back-end that loads it."""
        return {
            back_end_name(cut): partial(load_back_end, runtime, cut, self._own(cut, weights[cut.network]), max_batch)
            for cut in self.cuts
        }

    def _own(self, cut: Cut, weights: Weights) -> Weights:
        return TunedWeights(self.tuned[cut], cut.network, weights) if cut in self.tuned else weights


def chosen_catalogue(split: str | None, fill: str, codec: str | None = None, backend: str | None = None) -> Catalogue:
    """Return what the options ask for; UsageError if there is no such thing, GradfecError for an unreadable file."""
    codecs = [CodecFile.read(name.strip()) for name in codec.split(",")] if codec is not None else []
    if split is None:
        catalogue = Catalogue.default(fill, codecs)
    else:
        cuts = named_cuts(split)
        catalogue = Catalogue.of([*cuts, *latents(cuts, codecs)], fill)
    return catalogue if backend is None else replace(catalogue, tuned=chosen_back_ends(backend, catalogue.cuts))


def latents(cuts: Sequence[Cut], codecs: Sequence[CodecFile]) -> list[Cut]:
    """Return the cuts at the latents of the bottlenecks that are shipped for cuts, and of further ones."""
    shipped = [codec for cut in cuts if (codec := shipped_codec(cut)) is not None]
    return [codec.latents for codec in (*shipped, *codecs)]


def answer_at(cut: Cut, output: NDArray[np.float32]) -> Answer:
    """Return the answer in a network's output for one tensor of a cut; ValueError if it is not finite."""
    return cut.network.head.answer(output, labels_of(cut.network))
