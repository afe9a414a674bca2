"""`gradfec sweep protection --bytes`: each codec with its best plan at equal bytes, headers, seals and parity included.

The plans are chosen on images for tuning: for each codec, number of bytes and link, the best of a small grid.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from gradfec_common.codes import ZFEC
from gradfec_common.errors import UsageError
from gradfec_common.networks import Cut
from gradfec_edge.coding import BOTTLENECK, coding_of
from gradfec_host.codec_file import QUALITIES, SUFFIX
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.arguments import names_list
from gradfec_lab.sweep.budget_plans import UNPROTECTED, drops, plans
from gradfec_lab.sweep.budget_sender import NO_ANSWER, UNHEARD, Picture, Scheme, Sent, no_tensor
from gradfec_lab.sweep.codecs import FORMAT_NAMES, Codec, make_codec, named
from gradfec_lab.sweep.ends import Ends, ends_of
from gradfec_lab.sweep.engine import REFERENCE, Case, Examination
from gradfec_lab.sweep.losses import Losses, is_feasible
from gradfec_lab.sweep.report import shares, text
from gradfec_lab.sweep.store import Record, Store
from gradfec_lab.sweep.study import Image, Study, progress_bar

Link = tuple[str, float]  # mean length of a burst, share of the datagrams to lose

CODECS = "bottleneck,webp,jpeg,paper"
PAPER = "paper"  # the paper's mode: features of 8 bits, a packet a datagram, FEC_A_B
LOSSES = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8"
BURSTS = "iid,8"
REPETITIONS = 4
TUNE_IMAGES = 50
FIT_TUNING, FIT_MEASURED = 24, 200  # images whose bytes are counted to find a setting
STAGES = ((0.2, 8), (0.5, 3), (1.0, 1))  # of tuning: a share of the images, and how many plans are left then
CROWDED = 0.1  # the largest share of frames for which a plan may have too little room


class Slot(NamedTuple):
    """Where one plan is to be chosen: a codec, at so many bytes a frame, over a link."""

    codec: str
    bytes: int
    burst: str
    loss: float

    @property
    def link(self) -> Link:
        """The link."""
        return self.burst, self.loss


Wanted = Mapping[Scheme, Sequence[Link]]  # over which links a scheme is put to the test


@dataclass(frozen=True)
class Budget:
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


def budget_codec(name: str, cut: Cut, rows: int) -> Codec:
    """Return a codec with settings in fine steps, coarse ones first; UsageError if there is none."""
    if name == PAPER:
        return Codec(name, coding_of(cut, rows, "uniform8", UNPROTECTED, ZFEC.name, 1), named(["uniform8"], cut))
    if name == BOTTLENECK or name.endswith(SUFFIX):
        return make_codec(name, cut, rows, np.arange(QUALITIES[0], QUALITIES[-1] + 0.1, 0.25).tolist())
    if name in FORMAT_NAMES:
        return make_codec(name, cut, rows, range(1, 101))
    raise UsageError(f"--bytes compares bottleneck, FILE.npz, {', '.join(FORMAT_NAMES)} and {PAPER}, not {name!r}")


def read_budget_codecs(text: str, cut: Cut, rows: int) -> list[Codec]:
    """Read names of codecs."""
    return [budget_codec(name, cut, rows) for name in names_list(text)]


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
    """Return the images to measure, and those for tuning: the first `count` of the folder `tune`, or of the study.

    No image is in both. UsageError if nothing is left to measure.
    """
    if tune is not None:
        if tune.resolve() == study.photographs.folder.resolve():
            raise UsageError(f"--tune {tune} has the images to be measured: give other ones, or only --tune-images")
        return study, for_tuning(study, Photographs(tune, study.cut.network.preprocess, count))
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


class Networks:
    """The ends of all codecs, and of the uncut network, whose answer is the reference."""

    def __init__(self, study: Study, codecs: list[Codec]) -> None:
        """Load them."""
        uncut = make_codec("webp", study.cut, study.grid.rows)
        self._ends = ends_of([uncut, *codecs])
        self.uncut = self._ends[uncut.place]
        self.fingerprints = {codec.name: codec.place for codec in codecs}
        for ends in self._ends.values():
            self.fingerprints |= ends.fingerprints

    def of(self, codec: Codec) -> Ends:
        """Return a codec's ends."""
        return self._ends[codec.place]

    def reference(self, image: Image) -> int:
        """Return the uncut network's class."""
        return next(self.uncut.classes([self.uncut.features(image).chi]))


class Trial:
    """Puts schemes to the test over the images of one study, and keeps the answers in its store."""

    def __init__(self, budget: Budget, study: Study, store: Store, networks: Networks) -> None:
        """Draw the losses; a scheme that sends fewer datagrams than others loses the same ones of them."""
        self.study, self.store, self._budget, self._networks = study, store, budget, networks
        self._losses = Losses(len(study.names), budget.repetitions, max(study.grid.count, ZFEC.max_n))
        self._losses.draw(budget.possible, study.seed)
        self._index = {name: i for i, name in enumerate(study.names)}
        self._constant = {UNHEARD: NO_ANSWER}
        store.vouch(networks.fingerprints)

    def run(self, names: list[str], wanted: Wanted, title: str) -> list[str]:
        """Ask for what the store lacks of some images; return the usable ones among them."""
        points = {REFERENCE: 1} | dict.fromkeys(points_of(wanted), self._budget.repetitions)
        todo = [name for name in names if not self.store.knows(name, points, [scheme.bytes_name for scheme in wanted])]
        usable = self.study.each(self.store, todo, partial(self._examine, wanted), title)
        return [name for name in names if name in usable]

    def agreement(self, names: list[str], points: list[str]) -> list[float]:
        """Return the agreement with the uncut network, for each point."""
        reference = self.store.answers(names, [REFERENCE])[:, 0, 0]
        classes = self.store.answers(names, points, self._budget.repetitions)
        found: list[float] = shares(classes, reference).mean(axis=0).tolist()
        return found

    def _examine(self, wanted: Wanted, name: str, image: Image) -> Record:
        record = Record(answers={REFERENCE: [self._networks.reference(image)]})
        for codec in self._budget.codecs:
            mine = {scheme: links for scheme, links in wanted.items() if scheme.codec == codec.name}
            if mine:
                self._examine_codec(codec, mine, name, image, record)
        return record

    def _examine_codec(self, codec: Codec, wanted: Wanted, name: str, image: Image, record: Record) -> None:
        ends, examination = self._networks.of(codec), Examination()
        picture = Picture(codec, ends.features(image))
        for scheme, asked_links in wanted.items():
            links = [link for link in asked_links if not self._knows(name, point_name(scheme, link))]
            sent = picture.sent(scheme)
            record.numbers[scheme.bytes_name] = float(sent.wire_bytes) if sent else 0.0
            record.numbers[scheme.datagrams_name] = float(sent.plan.sent) if sent else 0.0
            for case in self._cases(scheme, sent, links, self._index[name], ends):
                examination.take(case)
        asked = [pattern for pattern in examination.slots if pattern not in self._constant]
        classes = ends.classes(examination.features[pattern]() for pattern in asked)
        known = self._constant | dict(zip(asked, classes, strict=True))
        for pattern in examination.slots:
            examination.answer(pattern, known[pattern])
        blank = codec.name.encode()
        if blank in known:
            self._constant[blank] = known[blank]
        record.answers |= examination.answers

    def _knows(self, name: str, point: str) -> bool:
        return self.store.repetitions(name, point) >= self._budget.repetitions

    def _cases(
        self, scheme: Scheme, sent: Sent | None, links: Sequence[Link], image: int, ends: Ends
    ) -> Iterator[Case]:
        for link in links:
            lost = self._losses.lost(*link, image)  # (repetitions, datagrams)
            point = point_name(scheme, link)
            for repetition in range(self._budget.repetitions):
                if sent is None:
                    yield Case(point, repetition, UNHEARD, no_tensor)
                else:
                    yield sent.case(point, repetition, ~lost[repetition, : sent.plan.sent], ends)


def point_name(scheme: Scheme, link: Link) -> str:
    """Return a point's name in the store."""
    return f"{scheme.name}/{link[0]}/{text(link[1])}"


def points_of(wanted: Wanted) -> list[str]:
    """Return the points' names."""
    return [point_name(scheme, link) for scheme, links in wanted.items() for link in links]


def candidates(budget: Budget, networks: Networks) -> dict[Slot, list[Scheme]]:
    """Return the schemes for each slot: its plans, each with the setting that fits the bytes of images for tuning."""
    return fitted(
        budget, networks, budget.tuning, FIT_TUNING, {slot: policies_for(budget, slot) for slot in budget.slots}
    )


def refitted(budget: Budget, networks: Networks, chosen: Mapping[Slot, Scheme]) -> dict[Slot, Scheme]:
    """Return the chosen plans with the setting that fits the bytes of the images to be measured.

    Only their sizes are looked at, not their answers. A slot whose plan cannot be had for its bytes is left out.
    """
    plans = {slot: [scheme.policy] for slot, scheme in chosen.items()}
    return {slot: some[0] for slot, some in fitted(budget, networks, budget.study, FIT_MEASURED, plans).items() if some}


def policies_for(budget: Budget, slot: Slot) -> list[str]:
    """Return the plans that are tried for a slot, as the user writes them."""
    (codec,) = (codec for codec in budget.codecs if codec.name == slot.codec)
    if own_bytes(codec):
        return [*drops(slot.loss), UNPROTECTED] if slot.loss else [UNPROTECTED]
    return plans(slot.bytes, slot.loss, codec.coding.quantiser.needs)


def fitted(
    budget: Budget, networks: Networks, study: Study, most: int, policies: Mapping[Slot, list[str]]
) -> dict[Slot, list[Scheme]]:
    """Return a scheme for each slot and plan, as far as it can be had, by the bytes of up to `most` images."""
    found: dict[Slot, list[Scheme]] = {}
    with progress_bar(Console(stderr=True, highlight=False), "plans") as progress:
        task = progress.add_task("fitting qualities to bytes", total=len(policies))
        for codec in budget.codecs:
            fitting = Fitting(codec, pictures_of(study, codec, networks.of(codec), most))
            for slot in (slot for slot in policies if slot.codec == codec.name):
                settings = {policy: fitting.finest(policy, slot.bytes) for policy in policies[slot]}
                found[slot] = [Scheme(codec.name, of, policy) for policy, of in settings.items() if of is not None]
                progress.advance(task)
    return found


def pictures_of(study: Study, codec: Codec, ends: Ends, most: int) -> list[Picture]:
    """Return up to `most` of the study's pictures, to be coded; none if all frames have the same bytes."""
    if own_bytes(codec):
        return []
    images = (study.photographs.read(name) for name in study.names[:: -(-len(study.names) // most)])
    return [Picture(codec, ends.features(image)) for image in images if image is not None]


class Fitting:
    """Finds settings of one codec with which frames take so many bytes, on average over pictures."""

    def __init__(self, codec: Codec, pictures: list[Picture]) -> None:
        self._codec, self._pictures = codec, pictures
        self._known: dict[tuple[str, int], str | None] = {}

    def finest(self, policy: str, most: int) -> str | None:
        """Return the finest setting with which frames take at most `most` bytes on average; None if none does."""
        if (policy, most) not in self._known:
            settings = [*self._codec.quantisers]
            low, high = 0, len(settings)  # settings[:low] fit, settings[high:] do not
            while low < high:
                middle = (low + high) // 2
                fits = self._fits(Scheme(self._codec.name, settings[middle], policy), most)
                low, high = (middle + 1, high) if fits else (low, middle)
            self._known[policy, most] = settings[low - 1] if low else None
        return self._known[policy, most]

    def _fits(self, scheme: Scheme, most: int) -> bool:
        total, crowded = 0, 0
        for picture in self._pictures:
            sent = picture.sent(scheme)
            if sent is None:
                return False
            total += sent.wire_bytes
            crowded += sent.crowded
            if total > most * len(self._pictures) or crowded > CROWDED * len(self._pictures):
                return False
        return True


def choose(trial: Trial, schemes: Mapping[Slot, list[Scheme]]) -> dict[Slot, Scheme]:
    """Return the best scheme for each slot; a slot for which there is none is left out.

    In stages: many schemes on few images, then the best of them on more.
    """
    left = {slot: some for slot, some in schemes.items() if some}
    names = trial.study.names
    for number, (share, keep) in enumerate(STAGES, 1):
        usable = trial.run(
            names[: max(round(share * len(names)), 1)], wanted_of(left), f"choosing plans, {number} of {len(STAGES)}"
        )
        left = {slot: best(trial, usable, slot, some)[:keep] for slot, some in left.items()}
    return {slot: some[0] for slot, some in left.items()}


def best(trial: Trial, names: list[str], slot: Slot, schemes: list[Scheme]) -> list[Scheme]:
    """Return schemes by their agreement at a slot, the best one first; of equals, the one that came first."""
    agreement = trial.agreement(names, [point_name(scheme, slot.link) for scheme in schemes])
    return [schemes[i] for i in np.argsort(-np.array(agreement), kind="stable")]


def wanted_of(schemes: Mapping[Slot, list[Scheme]]) -> dict[Scheme, list[Link]]:
    """Return over which links each scheme is put to the test."""
    wanted: dict[Scheme, list[Link]] = {}
    for slot, some in schemes.items():
        for scheme in some:
            links = wanted.setdefault(scheme, [])
            if slot.link not in links:
                links.append(slot.link)
    return wanted
