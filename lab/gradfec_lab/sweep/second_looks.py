"""Frames as `gradfec-edge --second-look` sends them: features, and if their answer's score is low, the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from gradfec_common.networks import Cut
from gradfec_edge.coding import BOTTLENECK, PICTURE_CODEC, coding_of
from gradfec_edge.second_look import FIRST_BYTES, picture_quality
from gradfec_lab.sweep.codecs import Codec, make_codec
from gradfec_lab.sweep.ends import Ends, Image, sent_whole

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
        at_cut, at_input = ends[self.first.place], ends[self.pictures.place]
        sent, size = sent_whole(self.first.coding, at_cut.features(image), at_cut)
        ((first, sureness),) = at_cut.answers([sent])

        @lru_cache
        def again(quality: int) -> tuple[int, int]:
            coding = replace(self.pictures.coding, quantiser=PICTURE_CODEC.with_quality(quality))
            picture, more = sent_whole(coding, at_input.features(image), at_input)
            (index,) = at_input.classes([picture])
            return index, size + more

        return {
            setting: (first, size) if sureness >= score else again(picture_quality(score))
            for setting, score in self.settings.items()
        }


def second_looks(cut: Cut, rows: int) -> SecondLooks:
    """Return them for a network that is cut there; UsageError if no bottleneck is shipped for it."""
    coding = coding_of(cut, None, BOTTLENECK, "none", "zfec", bytes_a_frame=FIRST_BYTES)
    return SecondLooks(Codec(BOTTLENECK, coding, {}), make_codec(PICTURE_CODEC.name, cut, rows))
