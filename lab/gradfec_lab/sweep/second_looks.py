"""Frames as `gradfec-edge --second-look` sends them: features, and if their answer's score is low, the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from gradfec_common.networks import Cut
from gradfec_common.protect import UNKNOWN_LINK
from gradfec_common.quantisers import chosen_quantiser
from gradfec_edge.coding import BOTTLENECK, PICTURE_CODEC, Coding, coding_of
from gradfec_edge.second_look import FIRST_BYTES, picture_quality
from gradfec_lab.sweep.codecs import Codec, make_codec
from gradfec_lab.sweep.ends import Ends, Floats, Image, delivered

NAME = "second-look"
SCORES = (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class SecondLooks:
    """The shipped bottleneck at first, and then pictures, of frames whose answers score below one of SCORES."""

    first: Codec
    pictures: Codec
    name: str = NAME

    @property
    def codecs(self) -> list[Codec]:
        """The codecs of both looks."""
        return [self.first, self.pictures]

    @property
    def fingerprints(self) -> dict[str, str]:
        """What the answers depend on, beside the networks."""
        finest = [picture_quality(score) for score in SCORES]
        return {self.name: f"{self.first.place}, {FIRST_BYTES} bytes, then {self.pictures.place}, qualities {finest}"}

    @property
    def settings(self) -> dict[str, float]:
        """The scores, by how they are called."""
        return {f"below {score:g}": score for score in SCORES}

    def look(self, image: Image, ends: dict[str, Ends]) -> dict[str, tuple[int, float]]:
        """Return the class of an image, and the bytes that it took, by setting; `ends` are those of the places."""
        sent, size = _sent(self.first.coding, ends[self.first.place], image)
        ((first, sureness),) = ends[self.first.place].answers([sent])

        @lru_cache
        def again(quality: int) -> tuple[int, int]:
            place = ends[self.pictures.place]
            quantiser = chosen_quantiser(f"{PICTURE_CODEC.format.name}:{quality}", self.pictures.coding.cut)
            picture, more = _sent(replace(self.pictures.coding, quantiser=quantiser), place, image)
            return next(iter(place.classes([picture]))), size + more

        return {
            setting: (first, size) if sureness >= score else again(picture_quality(score))
            for setting, score in self.settings.items()
        }


def second_looks(cut: Cut, rows: int) -> SecondLooks:
    """Return them for a network that is cut there; UsageError if no bottleneck is shipped for it."""
    coding = coding_of(cut, None, BOTTLENECK, "none", "zfec", bytes_a_frame=FIRST_BYTES)
    return SecondLooks(Codec(BOTTLENECK, coding, {}), make_codec(PICTURE_CODEC.name, cut, rows))


def _sent(coding: Coding, ends: Ends, image: Image) -> tuple[Floats, int]:
    """Return what the cloud decodes of an image, nothing lost, and the bytes of UDP payload that it took."""
    features = ends.features(image)
    assert features.scores is not None, "ends rank packets"  # noqa: S101
    encoded = coding.encode(features.chi, features.scores, features.damage, UNKNOWN_LINK, map)
    return delivered(encoded, np.ones(encoded.plan.sent, bool), coding.grid, ends.conceal), encoded.wire_bytes
