"""What a cloud serves: for each cut a back-end, a concealment, and the head and labels of its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradfec_cloud.backend.load import LoadBackEnd
from gradfec_cloud.labels import labels_of
from gradfec_cloud.workers.pool import BackEndName, Loaders, back_end_name
from gradfec_cloud.workers.station import CutStation
from gradfec_common.conceal import DEFAULT_CONCEALMENT, Concealment, make_concealment
from gradfec_common.errors import UsageError
from gradfec_common.heads import Answer
from gradfec_common.networks import DEFAULT_CUT, DEFAULT_NETWORK, Cut, Network, full_name, named_cut, named_network
from gradfec_common.networks.imported import Imported
from gradfec_host.codec_file import CodecFile, shipped_codec
from gradfec_host.concealment_file import cut_of, learned_for
from gradfec_host.models import Model, cut_called, model_of, network_called
from gradfec_host.models.store import BACK
from gradfec_host.tuned import BackEndFile, TunedWeights, chosen_back_ends
from gradfec_host.weights import Weights

MASK = "mask"  # the concealment for decoders, which have learned to fill gaps themselves


def named_cuts(text: str, model: str | None = None) -> list[Cut]:
    """Read cuts of a model, separated by commas; UsageError if one does not exist, or is named twice."""
    cuts = [cut_called(name.strip(), model) for name in text.split(",")]
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
    def of(cls, cuts: Sequence[Cut], fill: str, learned: Sequence[Path] = ()) -> Catalogue:
        """Fill gaps as `fill` says, see `fills_of`, with what is shipped or is in the files `learned`; UsageError."""
        fills = fills_of(fill, cuts)
        return cls(cuts, {cut: make_concealment(fills[cut], cut, learned_for(cut, learned)) for cut in cuts})

    @classmethod
    def default(cls, fill: str, codecs: Sequence[CodecFile] = (), learned: Sequence[Path] = ()) -> Catalogue:
        """Serve the default cut, and the default network's input for edges that send pictures, where a gap becomes 0.

        Also serve the latents of bottlenecks: the shipped one, and those of `codecs`. UsageError if `fill` is not for
        the default cut.
        """
        usual = cls.of([named_cut(DEFAULT_CUT), *latents([named_cut(DEFAULT_CUT)], codecs)], fill, learned)
        pictures = cls.of([named_cut(named_network(DEFAULT_NETWORK).input.name)], "zero")
        return cls([*usual.cuts, *pictures.cuts], {**usual.concealments, **pictures.concealments})

    @property
    def networks(self) -> list[Network]:
        """The networks, each once."""
        return [*dict.fromkeys(cut.network for cut in self.cuts)]

    def with_pictures(self) -> Catalogue:
        """Serve whole pictures, too: the input of each network that is not cut at a bottleneck's latents."""
        inputs = [cut.network.cut(cut.network.input.name) for cut in self.cuts if not cut.masked]
        more = self.of([cut for cut in dict.fromkeys(inputs) if cut not in self.cuts], "zero")
        return Catalogue([*self.cuts, *more.cuts], {**self.concealments, **more.concealments}, self.tuned)

    @property
    def pictures(self) -> list[Cut]:
        """The cuts at networks' inputs, where whole pictures are served."""
        return [cut for cut in self.cuts if cut.pixels is not None]

    @property
    def labels(self) -> frozenset[str]:
        """The labels of all answers that there can be; none if a network has no labels."""
        each = [labels_of(network) for network in self.networks]
        return frozenset().union(*each) if all(each) else frozenset()

    def stations(
        self,
        runtime: str,
        weights: Mapping[Network, Weights | Model],
        fills: Mapping[Cut, Concealment],
        max_batch: int,
    ) -> Loaders:
        """Return a function for each cut that loads its back-end, behind a decoder that fills gaps by `fills`."""
        loaders = self.loaders(runtime, weights, max_batch)
        names = {back_end_name(cut): cut for cut in self.cuts}
        return {name: partial(CutStation, loaders[name], cut, fills[cut]) for name, cut in names.items()}

    def loaders(
        self, runtime: str, weights: Mapping[Network, Weights | Model], max_batch: int
    ) -> dict[BackEndName, LoadBackEnd]:
        """Return a function for each back-end that loads it."""
        return {
            back_end_name(cut): LoadBackEnd(runtime, cut, self._own(cut, weights[cut.network]), max_batch)
            for cut in self.cuts
        }

    def _own(self, cut: Cut, weights: Weights | Model) -> Weights | Model:
        if cut not in self.tuned or isinstance(weights, Model):
            return weights
        return TunedWeights(self.tuned[cut], cut.network, weights)


def chosen_catalogue(
    split: str | None,
    fill: str,
    codec: str | None = None,
    models: str | None = None,
    learned: str | None = None,
    backend: str | None = None,
) -> Catalogue:
    """Return what the options ask for; UsageError if there is no such thing, GradfecError for an unreadable file."""
    codecs = [CodecFile.read(name.strip()) for name in codec.split(",")] if codec is not None else []
    files = [Path(name.strip()) for name in learned.split(",")] if learned is not None else []
    names = [name.strip() for name in models.split(",")] if models is not None else [DEFAULT_NETWORK]
    if split is not None:
        cuts = named_cuts(split, models if len(names) == 1 else None)  # of several models, each split says whose it is
        catalogue = Catalogue.of([*cuts, *latents(cuts, codecs)], fill, files)
    else:
        if DEFAULT_NETWORK in names:
            usual = [Catalogue.default(fill, codecs, files)]
        else:
            usual = [Catalogue.of(latents([], codecs), fill)]
        usual += [imported(network, fill) for network in map(network_called, names) if isinstance(network, Imported)]
        every = {cut: concealment for one in usual for cut, concealment in one.concealments.items()}
        catalogue = Catalogue([*every], every)
    for file in files:
        if (cut := cut_of(file)) not in map(full_name, catalogue.cuts):
            raise UsageError(f"{file} is for the split {cut}, which is not served: name it in --split")
    return catalogue if backend is None else replace(catalogue, tuned=chosen_back_ends(backend, catalogue.cuts))


def imported(network: Imported, fill: str) -> Catalogue:
    """Serve an imported network at its input, its default cut, and wherever less travels than at any cut before.

    Also serve the latents of the bottlenecks in its folder. If only halves of the network are here, serve the cuts with
    a cloud's half. If there are none, serve the default cut, so that loading it says what is missing.
    """
    model = model_of(network)
    held = [cut for side, cut in model.held if side == BACK]
    cuts = network.narrowing if model.is_whole else held or [network.usual_cut]
    trained = [codec for cut in network.cuts if (codec := shipped_codec(cut)) is not None]
    coded = [codec.latents for codec in trained if model.is_whole or codec.joins in held]
    return Catalogue.of([*cuts, *coded], fill)


def fills_of(text: str, cuts: Sequence[Cut]) -> dict[Cut, str]:
    """Read `NAME`, or `CUT=NAME,...` with at most one NAME for all others, which is otherwise the default; UsageError.

    A back-end that takes a mask gets one, whatever the text says.
    """
    own: dict[Cut, str] = {}
    others = DEFAULT_CONCEALMENT
    for part in text.split(","):
        at, _, name = part.strip().rpartition("=")
        if not at:
            others = name
            continue
        cut = cut_called(at)
        if cut not in cuts:
            raise UsageError(f"--fill {text}: the split {at} is not served: name it in --split")
        own[cut] = name
    return {cut: MASK if cut.masked else own.get(cut, others) for cut in cuts}


def latents(cuts: Sequence[Cut], codecs: Sequence[CodecFile]) -> list[Cut]:
    """Return the cuts at the latents of the bottlenecks that are there for cuts, and of further ones."""
    shipped = [codec for cut in cuts if (codec := shipped_codec(cut)) is not None]
    return [codec.latents for codec in (*shipped, *codecs)]


def answer_at(cut: Cut, output: NDArray[np.float32]) -> Answer:
    """Return the answer in a network's output for one tensor of a cut; ValueError if it is not finite."""
    return cut.network.head.answer(output, labels_of(cut.network))
