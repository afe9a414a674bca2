"""Putting schemes to the test: each over its links, on the images of a study, except for what a store knows already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from gradfec_common.codes import ZFEC
from gradfec_lab.sweep.codecs import Codec, make_codec
from gradfec_lab.sweep.ends import Ends, ends_of
from gradfec_lab.sweep.engine import REFERENCE, Case, Examination
from gradfec_lab.sweep.equal_bytes.comparison import Comparison, Link, Slot
from gradfec_lab.sweep.equal_bytes.sender import NO_ANSWER, UNHEARD, Picture, Scheme, Sent, no_tensor
from gradfec_lab.sweep.losses import Losses
from gradfec_lab.sweep.report import shares, text
from gradfec_lab.sweep.store import Record, Store
from gradfec_lab.sweep.study import Image, Study

Wanted = Mapping[Scheme, Sequence[Link]]  # over which links a scheme is put to the test


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

    def __init__(self, comparison: Comparison, study: Study, store: Store, networks: Networks) -> None:
        """Draw the losses; a scheme that sends fewer datagrams than others loses the same ones of them."""
        self.study, self.store, self._comparison, self._networks = study, store, comparison, networks
        self._losses = Losses(len(study.names), comparison.repetitions, max(study.grid.count, ZFEC.max_n))
        self._losses.draw(comparison.possible, study.seed)
        self._index = {name: i for i, name in enumerate(study.names)}
        self._constant = {UNHEARD: NO_ANSWER}
        store.vouch(networks.fingerprints)

    def run(self, names: list[str], wanted: Wanted, title: str) -> list[str]:
        """Ask for what the store lacks of some images; return the usable ones among them."""
        points = {REFERENCE: 1} | dict.fromkeys(points_of(wanted), self._comparison.repetitions)
        todo = [name for name in names if not self.store.knows(name, points, [scheme.bytes_name for scheme in wanted])]
        usable = self.study.each(self.store, todo, partial(self._examine, wanted), title)
        return [name for name in names if name in usable]

    def agreement(self, names: list[str], points: list[str]) -> list[float]:
        """Return the agreement with the uncut network, for each point."""
        reference = self.store.answers(names, [REFERENCE])[:, 0, 0]
        classes = self.store.answers(names, points, self._comparison.repetitions)
        found: list[float] = shares(classes, reference).mean(axis=0).tolist()
        return found

    def _examine(self, wanted: Wanted, name: str, image: Image) -> Record:
        record = Record(answers={REFERENCE: [self._networks.reference(image)]})
        for codec in self._comparison.codecs:
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
        return self.store.repetitions(name, point) >= self._comparison.repetitions

    def _cases(
        self, scheme: Scheme, sent: Sent | None, links: Sequence[Link], image: int, ends: Ends
    ) -> Iterator[Case]:
        for link in links:
            lost = self._losses.lost(*link, image)  # (repetitions, datagrams)
            point = point_name(scheme, link)
            for repetition in range(self._comparison.repetitions):
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


def wanted_of(schemes: Mapping[Slot, list[Scheme]]) -> dict[Scheme, list[Link]]:
    """Return over which links each scheme is put to the test."""
    wanted: dict[Scheme, list[Link]] = {}
    for slot, some in schemes.items():
        for scheme in some:
            links = wanted.setdefault(scheme, [])
            if slot.link not in links:
                links.append(slot.link)
    return wanted
