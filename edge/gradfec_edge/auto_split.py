"""`--split auto`: the ways that a session is prepared for, and the choice among them, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradfec_common.codes import ZFEC
from gradfec_common.errors import GradfecError
from gradfec_common.networks import DEFAULT_CUT, Cut, Network
from gradfec_common.networks.imported import Imported
from gradfec_common.protect import LinkEstimate
from gradfec_common.protect.auto import NAME as AUTO_PROTECT
from gradfec_common.splits import Chooser, Conditions, Expected, Heard, Wanted, Way, prepared
from gradfec_common.wire import MAX_FORMS
from gradfec_edge.coding import Coding, coding_of
from gradfec_edge.design import Design
from gradfec_edge.pipeline import Pipeline
from gradfec_host.models import model_of
from gradfec_host.models.store import FRONT
from gradfec_host.recent import percent
from gradfec_host.split_table import SplitTable, table_of

SPLIT = "auto"  # as --split
BEST = {"latency": "the fastest", "energy": "the least work for the edge", "bytes": "the smallest"}  # by goal
Say = Callable[[str], object]


def coding_for(cut: Cut, codec: str, quality: int | None, fec: str = ZFEC.name) -> Coding:
    """Return how frames of a way are coded: the link decides the protection. UsageError if there is no such codec."""
    return coding_of(cut, None, codec, AUTO_PROTECT, fec, quality=quality)


@dataclass(frozen=True)
class Prepared:
    """The ways that one session can use, with the design of each. Those of one place have one form."""

    table: SplitTable
    designs: dict[Way, Design]

    @property
    def listed(self) -> list[Design]:
        """The designs by their forms, the first of form 0."""
        return sorted(self.designs.values(), key=lambda design: design.coding.form)

    @property
    def cuts(self) -> list[str]:
        """The names of the cuts."""
        return [*dict.fromkeys(way.cut for way in self.designs)]


def prepare(network: Network, file: Path | None, fec: str) -> Prepared:
    """Choose from a network's table what to prepare a session for; UsageError if there is no table.

    GradfecError if this machine has the edge's half for none of the measured cuts.
    """
    table = table_of(network, file)
    ways = [way for way in table.ways if _is_here(network.cut(way.cut))]
    if not ways:
        raise GradfecError(f"--split auto: the edge's half of {network.name} is not here for any cut that was measured")
    codings = {way: coding_for(network.cut(way.cut), way.codec, way.quality, fec) for way in ways}
    places = prepared(ways, table.link, table.wanted, MAX_FORMS)
    # Form 0 is the one that the cloud must serve.
    places.sort(key=lambda place: not any(_is_usual(codings[way].cut) for way in ways if way.place == place))
    designs = {way: Design(replace(codings[way], form=places.index(way.place))) for way in ways if way.place in places}
    return Prepared(table, designs)


def _is_here(cut: Cut) -> bool:
    if cut.pixels or not isinstance(cut.network, Imported):
        return True
    model = model_of(cut.network)
    return model.is_whole or (FRONT, cut) in model.held


def _is_usual(cut: Cut) -> bool:
    """Return whether a cloud that was given no --split serves a cut."""
    if isinstance(cut.network, Imported):
        return cut in cut.network.narrowing
    return bool(cut.pixels) or cut.masked or cut.name == DEFAULT_CUT


class AutoSplit:
    """Chooses the pipeline for each frame: called in the thread that encodes them."""

    def __init__(
        self, prepared: Prepared, interval_s: float | None, say: Say, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with the best way for the planned link; `say` gets a line for each change."""
        table = prepared.table
        self._designs, self._clock, self._say = prepared.designs, clock, say
        self._wanted = replace(table.wanted, interval_s=interval_s)
        self._chooser = Chooser([*self._designs], table.link, self._wanted)
        self._used: Way | None = None
        self._missing: set[str] = set()

    def __call__(self, possible: Sequence[Pipeline], link: LinkEstimate) -> Pipeline:
        """Return the pipeline to use now, of those whose forms the cloud takes."""
        by_way = {way: one for way, of in self._designs.items() for one in possible if one.coding is of.coding}
        self._tell_missing({way.cut for way in self._designs if way not in by_way})
        reported = link.round_trip_s is not None  # until then, the loss is only supposed
        heard = Heard(link.loss if reported else None, link.bits_per_s, link.round_trip_s)
        chosen = self._chooser.look(heard, self._clock(), by_way)
        if chosen.way != self._used:
            self._say(f"split: {in_words(chosen, self._chooser.link, self._wanted)}")
            self._used = chosen.way
        return by_way[chosen.way]

    def _tell_missing(self, cuts: set[str]) -> None:
        if cuts and cuts != self._missing:
            self._say(f"split: this cloud does not serve {', '.join(sorted(cuts))}, for some links: see its --split")
        self._missing = cuts


def in_words(chosen: Expected, link: Conditions, wanted: Wanted) -> str:
    """Say what is chosen, for which link, and why."""
    enough = f"{100 * wanted.min_agreement:g} % of the answers"
    if chosen.agreement < wanted.min_agreement:
        why = f"none keeps {enough}"
    else:
        in_time = wanted.interval_s is not None and chosen.in_time(wanted.interval_s)
        why = f"{BEST[wanted.goal]} of those that keep {enough}{' and keep up with the frames' if in_time else ''}"
    return (
        f"{chosen.way.name}, {1000 * chosen.latency_s:.0f} ms expected for {link.bits_per_s / 1e6:.3g} Mbit/s, "
        f"{percent(link.loss)} lost and {1000 * link.round_trip_s:.0f} ms there and back: {why}"
    )
