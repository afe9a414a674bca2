"""The sweep's work: run the back-end, in full batches, on features as the product would deliver them.

Quantisers, plans and concealments are the product's. `gradfec_common.delivery` says what a plan delivers under a loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.conceal import Concealment
from gradfec_common.delivery import tensor_at_hand
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, Plan
from gradfec_common.quantisers import Coded, Quantiser
from gradfec_edge.coding import Coding
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.store import Record, Store

BATCH = 8
REFERENCE = "reference"  # the point for the answer to lossless chi in float32

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class Model(Protocol):
    """The back-end: `gradfec_lab.answers.Answers`."""

    def __call__(self, chi: Floats) -> npt.NDArray[np.intp]:
        """Return the classes (N,) of chi (N, H, W, C)."""


class Scorer(Protocol):
    """Front-end and estimators: `gradfec_cli.scores.Scores`."""

    fingerprints: dict[str, str]

    def __call__(
        self, images: npt.NDArray[np.uint8], names: list[str], classes: npt.NDArray[np.intp] | None = None
    ) -> tuple[Floats, dict[str, Floats], dict[str, Floats]]:
        """Return chi (N, H, W, C) and each estimator's scores (N, packets) of images (N, 224, 224, 3).

        For estimators that compensate for dropped packets, also return the form (N, groups, C, C) of the damage.
        """


class Subject(NamedTuple):
    """An image under examination: chi (H, W, C), and each estimator's scores (packets,).

    `damages` are the forms (groups, C, C) of the estimators that compensate for dropped packets.
    """

    name: str
    chi: Floats
    scores: dict[str, Floats]
    damages: Mapping[str, Floats] = MappingProxyType({})


class Case(NamedTuple):
    """One input for the back-end; cases of an image with equal patterns have equal `features`, made when needed."""

    point: str
    repetition: int
    pattern: bytes
    features: Callable[[], Floats]


@dataclass(frozen=True, eq=False)
class Delivered:
    """The coded packets of one image, and the tensor that the cloud makes of those that it gets."""

    coded: Coded
    quantiser: Quantiser
    grid: PacketGrid

    @cached_property
    def digest(self) -> bytes:
        """Bytes that identify these packets."""
        content = hashlib.blake2b(bytes([self.quantiser.id]) + self.coded.parameters)
        for array in self.coded.packets:
            content.update(np.ascontiguousarray(array).data)
        return content.digest()

    def case(self, point: str, repetition: int, at_hand: Mask, rule: str, conceal: Concealment) -> Case:
        """Return the case with the packets `at_hand` and the concealment `rule`."""
        pattern = rule.encode() if not at_hand.all() else b""  # nothing is missing, so nothing is filled
        pattern += np.packbits(at_hand).tobytes() + (self.digest if at_hand.any() else b"")

        def features() -> Floats:
            return tensor_at_hand(self.coded, at_hand, self.quantiser, conceal, self.grid)

        return Case(point, repetition, pattern, features)


class Deliveries:
    """The delivered tensors of one image, by coding and estimator."""

    def __init__(self, subject: Subject) -> None:
        """Take an image; codings that make the same packets share them."""
        self._subject = subject
        self._known: dict[bytes, Delivered] = {}

    def __call__(self, coding: Coding, estimator: str) -> tuple[Plan, Delivered]:
        """Return the plan and the packets that the edge would make of the image."""
        of = self._subject
        plan, coded = coding.packets(of.chi, of.scores[estimator], of.damages.get(estimator), UNKNOWN_LINK)
        delivered = Delivered(coded, coding.quantiser, coding.grid)
        return plan, self._known.setdefault(delivered.digest, delivered)


class Asker:
    """Runs the back-end in full batches, across images."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._waiting: list[tuple[Floats, Callable[[int], None]]] = []

    def ask(self, chi: Floats, deliver: Callable[[int], None]) -> None:
        """Call `deliver` with the class of chi (H, W, C) once a batch is full or flushed."""
        self._waiting.append((chi, deliver))
        if len(self._waiting) == BATCH:
            self.flush()

    def flush(self) -> None:
        """Ask the model for all that wait, in one batch, and deliver the classes."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            classes = self._model(np.stack([chi for chi, _ in waiting]))  # n x (H, W, C) -> (n, H, W, C)
            for (_, deliver), index in zip(waiting, classes, strict=True):
                deliver(int(index))


@dataclass
class Examination:
    """One image's cases, some of which have no answer yet."""

    slots: dict[bytes, list[tuple[str, int]]] = field(default_factory=dict)  # (point, repetition) by pattern
    features: dict[bytes, Callable[[], Floats]] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)
    unanswered: int = 0

    def take(self, case: Case) -> None:
        """Add a case; a point's repetitions come in order."""
        self.slots.setdefault(case.pattern, []).append((case.point, case.repetition))
        self.features.setdefault(case.pattern, case.features)
        answers = self.answers.setdefault(case.point, [])
        answers += [-1] * (case.repetition + 1 - len(answers))

    def answer(self, pattern: bytes, index: int) -> None:
        """Store the answer to all cases of a pattern."""
        for point, repetition in self.slots[pattern]:
            self.answers[point][repetition] = index


class Engine:
    """Examines images, and writes the results into a store."""

    def __init__(
        self,
        store: Store,
        scorer: Scorer,
        model: Model,
        cases: Callable[[Subject], Iterable[Case]],
        numbers: Callable[[Subject], dict[str, float]] = lambda subject: {},
        constant: Iterable[bytes] = (),
        reference: Model | None = None,
    ) -> None:
        """Run all `cases` of an image that have no answer in the store yet.

        `numbers` are stored too. Patterns in `constant` have the same features in all images. `reference` answers the
        lossless features, if `model` is not the network as it is.
        """
        self.store, self.scorer, self.asker = store, scorer, Asker(model)
        self.reference = self.asker if reference is None else Asker(reference)
        self.cases, self.numbers = cases, numbers
        self.constant = frozenset(constant)
        self._known: dict[bytes, int] = {}

    def run(
        self,
        photographs: Photographs,
        names: list[str],
        advance: Callable[[float], None],
        classes: dict[str, int] | None = None,
    ) -> None:
        """Examine the images `names`; `advance` gets each one's progress, from 0 to 1."""
        noted: set[str] = set()
        for batch, images in photographs.batches(names, BATCH):
            noted |= self._note_skipped(photographs, noted, advance)
            wanted = None if classes is None else np.array([classes[name] for name in batch])
            chi, *by_estimator = self.scorer(images, batch, wanted)
            for i, name in enumerate(batch):
                own = [{key: value[i] for key, value in found.items()} for found in by_estimator]
                self._examine(Subject(name, chi[i], *own), advance)
        self.asker.flush()
        self.reference.flush()
        self._note_skipped(photographs, noted, advance)

    def _note_skipped(self, photographs: Photographs, noted: set[str], advance: Callable[[float], None]) -> set[str]:
        new = photographs.skipped.keys() - noted
        for name in sorted(new):
            self.store.add(name, Record(skipped=photographs.skipped[name]))
            advance(1)
        return new

    def _examine(self, subject: Subject, advance: Callable[[float], None]) -> None:
        """Run everything that is not known about one image."""
        name, numbers = subject.name, self.numbers(subject)
        stored = self.store.records[name].answers if name in self.store.records else {}
        examination = Examination()
        known = {}  # patterns that have an answer from another point
        for case in self._all_cases(subject):
            answers = stored.get(case.point, [])
            if case.repetition < len(answers):
                known[case.pattern] = answers[case.repetition]
            else:
                examination.answers.setdefault(case.point, [*answers])
                examination.take(case)
        examination.unanswered = len(examination.slots)
        if not examination.slots:
            self.store.add(name, Record(numbers=numbers))
            advance(1)

        def delivers(pattern: bytes) -> Callable[[int], None]:
            def deliver(index: int) -> None:
                if pattern in self.constant:
                    self._known[pattern] = index
                examination.answer(pattern, index)
                examination.unanswered -= 1
                advance(1 / len(examination.slots))
                if not examination.unanswered:
                    self.store.add(name, Record(examination.answers, numbers))

            return deliver

        for pattern, features in examination.features.items():
            index = known.get(pattern, self._known.get(pattern))
            if index is None:
                asker = self.reference if pattern == REFERENCE.encode() else self.asker
                asker.ask(features(), delivers(pattern))
            else:
                delivers(pattern)(index)

    def _all_cases(self, subject: Subject) -> Iterator[Case]:
        yield Case(REFERENCE, 0, REFERENCE.encode(), lambda: subject.chi)
        yield from self.cases(subject)


def nothing_at_hand(grid: PacketGrid, rule: str) -> bytes:
    """Return the pattern of a tensor of which nothing arrived; it is the same for all images."""
    return rule.encode() + np.packbits(np.zeros(grid.count, bool)).tobytes()
