"""An imported network with a bottleneck: encoder and decoder are ONNX files, as the network's own halves are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from gradfec_common.bottlenecks.inserted import Floats, WithBottleneck
from gradfec_common.networks import Cut
from gradfec_common.networks.imported import LAYER, Imported, ImportedCut
from gradfec_common.networks.network import MASKED, Layer, Shape

ENCODER, LATENTS, DECODER = "bottleneck/encoder", "bottleneck/latents", "bottleneck/decoder"


@dataclass(frozen=True, eq=False)
class ImportedWithBottleneck(WithBottleneck):
    """The edge runs the network up to the cut `at`, then `encoder`; the cloud `decoder`, then the rest from `joins`.

    `codec` is a digest of all that was trained.
    """

    joins: Cut = field(kw_only=True)
    encoder: bytes = field(kw_only=True, repr=False)
    decoder: bytes = field(kw_only=True, repr=False)
    codec: bytes = field(kw_only=True)

    @property
    def manifest(self) -> bytes:
        """Everything that determines what latents and their answer mean, as canonical JSON; names are left out."""
        parts = {"network": self.base.digest.hex(), "codec": self.codec.hex()}
        return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()


def imported_with_bottleneck(
    name: str,
    at: ImportedCut,
    joins: Cut,
    shape: Shape,
    halves: tuple[bytes, bytes],
    digest: bytes,
    ranking: Mapping[str, Floats],
) -> Cut:
    """Return the cut at the latents, of `shape`, of a network with the bottleneck `name`.

    `halves` are the encoder, from (1, C, H, W) at the cut to latents (1, c, h, w), and the decoder, from latents with
    their mask (1, 2c, h, w) to what the network has at `joins`, both as ONNX files.
    """
    base = at.network
    assert isinstance(base, Imported)  # noqa: S101
    layers = (
        base.input,
        Layer(ENCODER, LAYER, (base.input.name,), shape),
        Layer(LATENTS, MASKED, (ENCODER,), (*shape[:2], 2 * shape[2])),
        Layer(DECODER, LAYER, (LATENTS,), joins.shape),
        Layer(base.output.name, LAYER, (DECODER,), base.output.shape),
    )
    network = ImportedWithBottleneck(
        f"{base.name}+{name}-{digest.hex()[:8]}",
        f"{base.title} with the bottleneck {name}",
        layers,
        base.preprocess,
        base.head,
        base=base,
        at=at,
        trained={},
        ranking=ranking,
        joins=joins,
        encoder=halves[0],
        decoder=halves[1],
        codec=digest,
    )
    return network.cut(ENCODER)
