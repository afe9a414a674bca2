"""What a plan compares: the cuts of a network that are worth a look, and the codecs that make sense at each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut, Network
from gradfec_common.networks.imported import Imported
from gradfec_edge.auto_split import coding_for
from gradfec_edge.coding import BOTTLENECK
from gradfec_edge.design import Design
from gradfec_host.codec_file import shipped_codec

PICTURES = ("avif:40", "avif:60", "avif:80", "jpeg:75")
FEATURES = ("sqrt4", "local5", "local6", "local8")
QUALITIES = (3, 5, 7)  # of bottlenecks


class Candidate(NamedTuple):
    """A way to split, before it is measured: the names by which the edge's options call it, and how it is coded."""

    cut: Cut
    codec: str
    quality: int | None
    design: Design


def candidate_cuts(network: Network) -> list[Cut]:
    """Return the input, the last cut, those with a bottleneck, and those between where the least travels.

    A built-in network has blocks. Inside of one more travels, so those cuts count where one ends and the next begins.
    Along blocks of one shape work moves from the cloud to the edge, block by block, and nothing else changes much: if
    one of these cuts is best, it is the first or the last.
    """
    cuts = network.cuts
    with_bottleneck = [cut for cut in cuts if shipped_codec(cut)]
    if isinstance(network, Imported):
        between = [*network.narrowing]
    else:
        ends = [cut for cut in cuts if _begins_block(cut)]
        shapes = [None, *(cut.shape for cut in ends), None]
        between = [cut for n, cut in enumerate(ends, 1) if not shapes[n - 1] == cut.shape == shapes[n + 1]]
    return [cut for cut in cuts if cut in (cuts[0], *between, *with_bottleneck, cuts[-1])]


def candidates(network: Network) -> Iterator[Candidate]:
    """Yield all ways to split a network that a plan compares, in the order of the cuts."""
    for cut in candidate_cuts(network):
        codecs: list[tuple[str, int | None]] = [(codec, None) for codec in (PICTURES if cut.pixels else FEATURES)]
        if shipped_codec(cut):
            codecs += [(BOTTLENECK, quality) for quality in QUALITIES]
        for codec, quality in codecs:
            try:
                coding = coding_for(cut, codec, quality)
            except UsageError:  # the codec is not for such tensors, or its packets do not fit a datagram
                continue
            yield Candidate(cut, codec, quality, Design(coding))


def _begins_block(cut: Cut) -> bool:
    """Return whether two branches begin at a cut."""
    return sum(cut.name in layer.inbound for layer in cut.back_layers) > 1
