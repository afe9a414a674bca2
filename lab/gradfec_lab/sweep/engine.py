"""The sweep's work: run the back-end, in full batches, on features as the product would deliver them.

Quantiser, packets and plans are the product's. `gradfec_common.delivery` says what a plan delivers under a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gradfec_common.fill import Fill
from gradfec_common.packets import PacketGrid
from gradfec_common.plan import Plan
from gradfec_common.quantise import dequantise, quantise
from gradfec_edge.compensation import compensated
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
    """An image under examination: chi (H, W, C), each estimator's scores (packets,), and, for those that compensate for
    dropped packets, the form (groups, C, C) of the damage.
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


class Delivered:
    """The features of one image as the product delivers them, with any packets missing."""

    def __init__(self, chi: Callable[[], Floats], grid: PacketGrid, sent: bytes = b"") -> None:
        """Deliver features (H, W, C), made when needed; `sent` identifies them among those of one image."""
        self._chi, self.grid, self.sent = chi, grid, sent

    @cached_property
    def packets(self) -> Floats:
        """The packets (packets, size), quantised and dequantised."""
        return self.grid.split(dequantise(*quantise(self._chi())))

    def __call__(self, at_hand: Mask, fill: Fill) -> Floats:
        """Return features (H, W, C) with the packets `at_hand` (packets,), and the fill in place of the others."""
        channels = np.broadcast_to(np.asarray(fill, np.float32), self.grid.shape[2:])
        values = np.repeat(channels, self.grid.groups)  # (256 channels,) -> (2048 packets,)
        return self.grid.join(np.where(at_hand[:, None], self.packets, values[:, None]))

    def case(self, point: str, repetition: int, at_hand: Mask, rule: str, fill: Fill) -> Case:
        """Return the case with the packets `at_hand` and the fill `rule`."""
        pattern = rule.encode() if not at_hand.all() else b""  # nothing is missing, so nothing is filled
        pattern += np.packbits(at_hand).tobytes() + (self.sent if at_hand.any() else b"")
        return Case(point, repetition, pattern, lambda: self(at_hand, fill))


def delivered(subject: Subject, grid: PacketGrid) -> Callable[[str, Plan], Delivered]:
    """Return a function from an estimator and its plan to the delivered features; most plans share them."""
    as_they_are = Delivered(lambda: subject.chi, grid)

    def by_plan(estimator: str, plan: Plan) -> Delivered:
        damage = subject.damages.get(estimator)
        if damage is None or not len(plan.dropped):
            return as_they_are
        return Delivered(
            lambda: compensated(subject.chi, damage, plan.dropped, grid), grid, b"compensated" + plan.dropped.tobytes()
        )

    return by_plan


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
        """Run the waiting features."""
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
    ) -> None:
        """Run all `cases` of an image that have no answer in the store yet.

        `numbers` are stored too. Patterns in `constant` have the same features in all images.
        """
        self.store, self.scorer, self.asker = store, scorer, Asker(model)
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
                self.asker.ask(features(), delivers(pattern))
            else:
                delivers(pattern)(index)

    def _all_cases(self, subject: Subject) -> Iterator[Case]:
        yield Case(REFERENCE, 0, REFERENCE.encode(), lambda: subject.chi)
        yield from self.cases(subject)


def nothing_at_hand(grid: PacketGrid, rule: str) -> bytes:
    """Return the pattern of a tensor of which nothing arrived; it is the same for all images."""
    return rule.encode() + np.packbits(np.zeros(grid.count, bool)).tobytes()
