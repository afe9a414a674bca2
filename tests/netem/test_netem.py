"""The kernel's netem and our injector do the same to the traffic of the real daemons: what the parameters say.

Not among the ordinary tests: it boots a machine, needs root, and takes some minutes. `make test-netem` runs it.
Bounds are four standard errors, which chance alone exceeds once in 16,000 times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np
import pytest

from gradfec_cli.experiment import top1

from .__main__ import HEADINGS, MACHINE, Both, cells_of, measurements
from .measure import IMPAIRMENTS, OFFLOADED, Impairment, Measured, source_of
from .router import missing

pytestmark = [
    pytest.mark.netem,
    pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing"),
]
SIGMAS = 4
SPARED = [link for link in IMPAIRMENTS if link.loss <= 0.1 and link.burst < 2]  # FEC_20_80 repairs every frame

each = pytest.mark.parametrize("link", IMPAIRMENTS, ids=lambda link: link.name)


Bench = tuple[Callable[[Impairment], Both], Mapping[str, int]]


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    """What measures a link, once, and the lossless answers; in the end, the table."""
    rows: list[str] = []
    with measurements(None, "FEC_20_80", repetitions=2, rate=8.0, seed=7, machine=MACHINE) as (measure, reference):

        @cache
        def once(link: Impairment) -> Both:
            both = measure(link)
            cells = [cell for run in both if run for cell in cells_of(run, reference)]
            rows.append(f"| {link.name} | {' | '.join(cells)} |")
            return both

        yield once, reference
    print("", HEADINGS, *rows, sep="\n")


@pytest.fixture
def measured(bench: Bench) -> Callable[[Impairment], Both]:
    return bench[0]


@pytest.fixture
def lossless(bench: Bench) -> Mapping[str, int]:
    return bench[1]


def both(link: Impairment, measured: Callable[[Impairment], Both]) -> list[Measured]:
    return [run for run in measured(link) if run]


@each
def test_so_many_are_lost_as_the_parameters_say(link: Impairment, measured: Callable[[Impairment], Both]) -> None:
    for run in both(link, measured):
        assert len(run.lost) > 0.9 * 2048 * len(run.records)
        assert abs(run.loss - link.loss) <= SIGMAS * link.loss_error(len(run.lost))


@pytest.mark.parametrize("link", [link for link in IMPAIRMENTS if link.loss], ids=lambda link: link.name)
def test_losses_come_in_runs_of_the_length_that_the_parameters_say(
    link: Impairment, measured: Callable[[Impairment], Both]
) -> None:
    for run in both(link, measured):
        assert abs(run.burst - link.burst) <= SIGMAS * link.burst_error(len(run.lost))


@each
def test_netem_and_injector_agree(link: Impairment, measured: Callable[[Impairment], Both]) -> None:
    netem, injector = both(link, measured)
    count = min(len(netem.lost), len(injector.lost))
    assert abs(netem.loss - injector.loss) <= SIGMAS * np.sqrt(2) * link.loss_error(count)
    assert abs(netem.burst - injector.burst) <= SIGMAS * np.sqrt(2) * link.burst_error(count)


@each
def test_as_many_answers_stand_by_netem_as_by_the_injector(
    link: Impairment, measured: Callable[[Impairment], Both], lossless: Mapping[str, int]
) -> None:
    netem, injector = (run.agreement(lossless) for run in both(link, measured))
    images = len(lossless)  # the answers to one image are alike: each image counts once
    assert abs(netem - injector) <= SIGMAS * np.sqrt(2 * 0.25 / images)


@pytest.mark.parametrize("link", SPARED, ids=lambda link: link.name)
def test_where_the_code_repairs_all_the_answers_are_the_same_frame_by_frame(
    link: Impairment, measured: Callable[[Impairment], Both]
) -> None:
    netem, injector = (by_name(run) for run in both(link, measured))
    assert netem.keys() == injector.keys()
    for name, record in netem.items():
        assert record["outcome"] == injector[name]["outcome"] == "complete"
        assert top1(record) == top1(injector[name])


def by_name(run: Measured) -> Mapping[str, dict[str, object]]:
    return {record["source"]: record for record in run.records}


@each
def test_nothing_is_lost_but_by_netem_and_every_count_agrees(
    link: Impairment, measured: Callable[[Impairment], Both]
) -> None:
    """What tc counts is what edge and cloud differ by, and what the edge's records add up to."""
    for run in both(link, measured):
        gone = run.sent - run.received
        if run.netem:
            assert run.netem.card_drops == 0
            assert run.netem.dropped == gone
            assert run.netem.sent == run.received
        assert abs(int(run.lost.sum()) - gone) <= 10  # hellos have no number, nor do goodbyes after the last that came
        in_records = sum(record["packets"]["lost"] for record in run.records)
        assert abs(in_records - gone) <= 0.01 * run.sent  # messages are in no record


def test_a_delay_is_in_every_round_trip(measured: Callable[[Impairment], Both]) -> None:
    link = next(link for link in IMPAIRMENTS if link.delay_ms)
    for run in both(link, measured):
        assert run.round_trip_ms["min"] >= link.delay_ms


def test_what_is_held_back_is_overtaken(measured: Callable[[Impairment], Both]) -> None:
    """At most what is held back is; of that, what the next one was late for, because a machine stood still, is not."""
    for link in IMPAIRMENTS:
        for run in both(link, measured):
            count = len(run.lost)
            share = run.reordered / count
            assert share <= link.reordered + SIGMAS * np.sqrt(link.reordered * (1 - link.reordered) / count)
            assert share >= 0.5 * link.reordered


def test_behind_offload_netem_loses_many_datagrams_as_one(measured: Callable[[Impairment], Both]) -> None:
    netem, injector = measured(OFFLOADED)
    assert injector is None
    assert netem.burst > 4 * OFFLOADED.burst


def test_images_are_known_by_their_names_however_often_they_are_sent() -> None:
    assert source_of({"source": "1-a-cat.png"}) == "a-cat.png"
