"""What is compared at equal bytes: codecs, numbers of bytes, links and images."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gradfec_common.codes import ZFEC
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_edge.coding import BOTTLENECK, coding_of
from gradfec_host.codec_file import SUFFIX
from gradfec_host.quality import QUALITIES
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.arguments import names_list
from gradfec_lab.sweep.codecs import FORMAT_NAMES, Codec, make_codec, named
from gradfec_lab.sweep.equal_bytes.plans import UNPROTECTED
from gradfec_lab.sweep.losses import is_feasible
from gradfec_lab.sweep.study import Study

Link = tuple[str, float]  # mean length of a burst, share of the datagrams to lose

CODECS = "bottleneck,avif,webp,jpeg,paper"
PAPER = "paper"  # the paper's mode: features of 8 bits, a packet a datagram, FEC_A_B
LOSSES = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8"
BURSTS = "iid,8"
REPETITIONS = 4
TUNE_IMAGES = 50


class Slot(NamedTuple):
    """What one plan is chosen for: a codec, a number of bytes a frame, and a link."""

    codec: str
    bytes: int
    burst: str
    loss: float

    @property
    def link(self) -> Link:
        """The link: length of bursts, and share lost."""
        return self.burst, self.loss


@dataclass(frozen=True)
class Comparison:
    """What to measure: codecs, numbers of bytes, links, and how many draws of the losses for each image.

    `tuning` has the images on which plans are chosen, `study` those that are measured.
    """

    study: Study
    tuning: Study
    codecs: list[Codec]
    sizes: list[int]
    links: list[Link]
    repetitions: int

    @property
    def possible(self) -> list[Link]:
        """The links that can be: a burst of some length cannot lose every share."""
        return [link for link in self.links if is_feasible(*link)]

    @property
    def slots(self) -> list[Slot]:
        """Every place for a plan, in order. The paper's mode has its own bytes."""
        sizes = {codec.name: own_bytes(codec) or self.sizes for codec in self.codecs}
        return [Slot(codec, size, *link) for codec, of in sizes.items() for size in of for link in self.possible]


def fine_codec(name: str, cut: Cut, rows: int) -> Codec:
    """Return a codec with settings in fine steps, coarse ones first; UsageError if there is none."""
    if name == PAPER:
        return Codec(name, coding_of(cut, rows, "uniform8", UNPROTECTED, ZFEC.name, 1), named(["uniform8"], cut))
    if name == BOTTLENECK or name.endswith(SUFFIX):
        return make_codec(name, cut, rows, np.arange(QUALITIES[0], QUALITIES[-1] + 0.1, 0.25).tolist())
    if name in FORMAT_NAMES:
        return make_codec(name, cut, rows, range(1, 101))
    raise UsageError(f"--bytes compares bottleneck, FILE.npz, {', '.join(FORMAT_NAMES)} and {PAPER}, not {name!r}")


def read_fine_codecs(text: str, cut: Cut, rows: int) -> list[Codec]:
    """Read names of codecs, separated by commas; UsageError for an unknown one."""
    return [fine_codec(name, cut, rows) for name in names_list(text)]


def read_sizes(text: str) -> list[int]:
    """Read numbers of bytes, `6000,12000`, in rising order; UsageError for one that is not."""
    sizes = names_list(text)
    if wrong := [size for size in sizes if not (size.isascii() and size.isdigit() and int(size) >= 500)]:
        raise UsageError(f"--bytes: {wrong[0]!r} is not a number of bytes a frame, at least 500")
    return sorted({int(size) for size in sizes})


def own_bytes(codec: Codec) -> list[int]:
    """Return the bytes of a codec's frames if they are always the same; none otherwise."""
    size = codec.coding.check()
    return [] if size is None else [size]


def divided(study: Study, tune: Path | None, count: int) -> tuple[Study, Study]:
    """Return the images to measure, and `count` for tuning: drawn from the folder `tune`, or the study's first.

    No image is in both. UsageError if nothing is left to measure.
    """
    if tune is not None:
        if tune.resolve() == study.photographs.folder.resolve():
            raise UsageError(f"--tune {tune} has the images to be measured: give other ones, or only --tune-images")
        others = Photographs(tune, study.cut.network.preprocess)
        drawn = np.random.default_rng(study.seed).permutation(len(others.names))[:count]
        return study, for_tuning(study, some(others, [others.names[i] for i in np.sort(drawn)]))
    if count >= len(study.names):
        raise UsageError(
            f"plans are chosen on the first {count} images, which are not measured, and there are only "
            f"{len(study.names)}: give fewer --tune-images, or another folder with --tune"
        )
    rest = replace(study, photographs=some(study.photographs, study.names[count:]))
    return rest, for_tuning(study, some(study.photographs, study.names[:count]))


def for_tuning(study: Study, photographs: Photographs) -> Study:
    """Return the study of images for tuning, with losses of its own."""
    out = study.out / "tuning" if study.out else None
    return replace(study, photographs=photographs, truth=None, seed=study.seed + 1, out=out)


def some(photographs: Photographs, names: list[str]) -> Photographs:
    """Return some of the photographs."""
    part = copy.copy(photographs)
    part.names, part.skipped = names, {}
    return part
