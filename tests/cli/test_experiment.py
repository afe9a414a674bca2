"""What an experiment makes of its records: agreement, sums, latency, and the search for datagrams without a fate."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gradfec_cli.experiment import (
    DATAGRAM_NAMES,
    PACKET_NAMES,
    Link,
    Record,
    Run,
    coding_options,
    top1,
    unaccounted,
)
from gradfec_common.errors import UsageError

CLEAN = {"received": 0, "duplicated": 0, "delivered": 0, "in_flight": 0, "dropped_loss": 0}


def record(source: str, best: int | None, latency: float | None = None, **counts: int | None) -> Record:
    return {
        "source": source,
        "top5": [] if best is None else [{"class_index": best, "label": "x", "score": 1.0}],
        "packets": {name: counts.get(name, 0) for name in PACKET_NAMES},
        "datagrams": {name: counts.get(name, 0) for name in DATAGRAM_NAMES},
        "latency_ms": latency,
    }


def run_of(*records: Record) -> Run:
    return Run([*records], {}, {})


def test_agreement_is_by_source_and_no_answer_is_no_agreement() -> None:
    run = run_of(record("a", 1), record("b", 2), record("c", None), record("d", 3))
    assert run.agreement({"a": 1, "b": 9, "c": 3, "d": 3}) == 0.5
    assert [top1(one) for one in run.records] == [1, 2, None, 3]


def test_counts_add_up_and_what_is_unknown_counts_as_none() -> None:
    run = run_of(record("a", 1, sent=10, lost=3, missing=2), record("b", None, sent=10, lost=None, missing=None))
    assert list(run.packets()) == list(PACKET_NAMES)
    assert list(run.datagrams()) == list(DATAGRAM_NAMES)
    assert (run.datagrams()["sent"], run.datagrams()["lost"], run.packets()["missing"]) == (20, 3, 2)


def test_with_a_fixed_number_of_packets_the_edge_runs_in_the_papers_mode() -> None:
    assert coding_options("none", "zfec", "auto", None) == ["--codec", "auto", "--protect", "none", "--fec", "zfec"]
    paper = ["--mode", "paper", "--packets-per-datagram", "2"]
    assert coding_options("none", "zfec", "sqrt4", 2)[:4] == paper


def test_latency_is_of_the_frames_that_were_answered() -> None:
    run = run_of(*(record("a", 1, latency=float(ms)) for ms in range(1, 102)), record("b", None))
    assert run.latency_ms() == {"p50": 51.0, "p95": 96.0}
    assert run_of(record("b", None)).latency_ms() == {}


@pytest.mark.parametrize(
    ("link", "options"),
    [
        (Link(0.3, seed=7), ["--loss", "0.3", "--seed", "7"]),
        (Link(0.3, 8.0, 7), ["--loss", "0.3", "--burst", "8.0", "--seed", "7"]),
        (Link(0.0, 8.0), ["--loss", "0.0", "--seed", "0"]),  # nothing is lost, in bursts or otherwise
    ],
)
def test_a_link_is_given_to_the_injector_as_its_options(link: Link, options: list[str]) -> None:
    assert link.options() == options


@pytest.mark.parametrize(("loss", "burst"), [(0.9, 2.0), (0.5, 0.5), (1.0, 4.0)])
def test_a_link_that_cannot_be_is_refused_before_anything_is_started(loss: float, burst: float) -> None:
    with pytest.raises(UsageError):
        Link(loss, burst)


def accounts() -> tuple[Run, dict[str, Any]]:
    """A run of one frame in which 3 of 12 datagrams up and 1 of 5 back were lost, and each is accounted for."""
    edge = {
        "datagrams_sent": {"symbol": 10, "control": 2},
        "datagrams_received": {"welcome": 1, "result": 1, "report": 1, "duplicate": 1},
    }
    injector = {
        "up": CLEAN | {"received": 12, "delivered": 9, "dropped_loss": 3},
        "back": CLEAN | {"received": 5, "delivered": 4, "dropped_loss": 1},
    }
    cloud = {
        "datagrams_received": {"hello": 1, "collected": 7, "bye": 1},
        "datagrams_dropped_by_kernel": {"kernel": 0},
        "datagrams_sent": {"control": 5, "failed": 0},
    }
    return Run([record("a", 1, sent=10, received=7, lost=3)], edge, injector), cloud


def test_a_run_whose_counters_agree_has_nothing_unaccounted_for() -> None:
    assert set(unaccounted(*accounts()).values()) == {0}


@pytest.mark.parametrize(
    ("counter", "place", "difference"),
    [
        ("edge.datagrams_sent.control", "edge to injector", 1),
        ("injector.up.dropped_loss", "through injector, up", -1),
        ("cloud.datagrams_received.bye", "injector to cloud", -1),
        ("cloud.datagrams_dropped_by_kernel.kernel", "injector to cloud", -1),
        ("cloud.datagrams_sent.control", "cloud to injector", 1),
        ("injector.back.in_flight", "through injector, back", -1),
        ("edge.datagrams_received.duplicate", "injector to edge", -1),
    ],
)
def test_one_datagram_too_many_shows_at_its_place_on_the_way(counter: str, place: str, difference: int) -> None:
    run, cloud = copy.deepcopy(accounts())
    side, group, name = counter.split(".")
    {"edge": run.edge, "injector": run.injector, "cloud": cloud}[side][group][name] += 1
    assert {key: n for key, n in unaccounted(run, cloud).items() if n} == {place: difference}
