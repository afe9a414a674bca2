"""The journal: one record for each frame, whatever became of it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.common.answers import HEAD

from gradfec_common.errors import GradfecError
from gradfec_common.heads import Box, Boxes, Classes
from gradfec_common.protect import UNKNOWN_LINK, Plan, read_policy
from gradfec_common.session.edge import Answered, Closed
from gradfec_common.transmit import room_for
from gradfec_common.wire import Report, Result
from gradfec_edge.frames import Frame
from gradfec_edge.journal import Journal
from gradfec_edge.story import Sent, Story
from gradfec_host.results import ResultsFile

KEYS = [
    *(
        "frame",
        "source",
        "session",
        "tensor",
        "outcome",
        "head",
        "top5",
        "packets",
        "datagrams",
        "split",
        "codec",
        "bytes",
    ),
    *("latency_ms", "stages_ms"),
]
WRITTEN = ["time", *KEYS]
DATAGRAM_BYTES = 100
STAGES = {"front_end": 10.0}
CAT = Classes(((285, "Egyptian_cat", 0.86),))


def frame(number: int = 3) -> Frame:
    return Frame(number, "cat.jpg", np.zeros((4, 4, 3), np.uint8), time.monotonic())


def plan() -> Plan:
    """Plan for 20 packets, two in a datagram: 10 are dropped, 10 go in 5 datagrams, and 5 carry parity."""
    importance = np.arange(20, dtype=np.float32)
    return read_policy("FEC_50_50").plan(importance, np.full(20, 30), UNKNOWN_LINK, room_for(8, 2))


def sent(tensor: int = 5) -> Sent:
    return Sent(7, tensor, plan(), DATAGRAM_BYTES)


def result(tensor: int = 5, outcome: str = "complete") -> Result:
    return Result(tensor, outcome, CAT.packed(), 4, 1, {"decode": 2.0})


@pytest.fixture
def shown() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def journal(shown: list[dict[str, Any]]) -> Journal:
    return Journal(None, HEAD, lambda story: shown.append(story.record()))


def test_an_answered_frame_has_its_answer_its_packets_and_the_stages_of_both_sides(
    journal: Journal, shown: list[dict[str, Any]]
) -> None:
    journal.sent(frame(), sent(), STAGES)
    journal.answered(Answered(5, result(), CAT))
    assert shown == []  # its datagrams are not counted yet
    journal.closed(Closed(5, result(), Report(5, 10, 7, 2), 10, CAT))
    (record,) = shown
    assert list(record) == KEYS
    assert (record["frame"], record["source"], record["tensor"], record["outcome"]) == (3, "cat.jpg", 5, "complete")
    assert (record["session"], record["bytes"]) == (7, 10 * DATAGRAM_BYTES)
    assert record["head"] == "classify"
    assert record["top5"] == [{"class_index": 285, "label": "Egyptian_cat", "score": 0.86}]
    assert record["packets"] == {"total": 20, "dropped_by_plan": 10, "recovered": 4, "missing": 1}
    assert record["datagrams"] == {"sent": 10, "parity": 5, "received": 7, "lost": 3, "asked": 0}
    assert record["stages_ms"] == {"front_end": 10.0, "decode": 2.0}
    assert record["latency_ms"] > 0


def test_boxes_lie_in_the_frame_of_which_the_network_saw_a_part(journal: Journal, shown: list[dict[str, Any]]) -> None:
    boxes = Boxes((Box(0, "person", 0.5, (0.0, 0.0, 0.5, 1.0)),))
    journal.sent(frame(), sent()._replace(part=(0.25, 0.0, 0.75, 1.0)), STAGES)
    journal.answered(Answered(5, result(), boxes))
    journal.closed(Closed(5, result(), None, 10, boxes))
    assert shown[0]["boxes"] == [{"class_index": 0, "label": "person", "score": 0.5, "box": [0.25, 0.0, 0.5, 1.0]}]


def test_without_a_report_the_datagrams_that_were_lost_are_unknown(
    journal: Journal, shown: list[dict[str, Any]]
) -> None:
    journal.sent(frame(), sent(), STAGES)
    journal.answered(Answered(5, result(outcome="partial"), CAT))
    journal.closed(Closed(5, result(outcome="partial"), None, 10, CAT))
    assert shown[0]["outcome"] == "partial"
    assert shown[0]["datagrams"] == {"sent": 10, "parity": 5, "received": None, "lost": None, "asked": 0}
    assert shown[0]["packets"]["recovered"] == 4


def test_a_frame_without_an_answer_is_a_timeout_with_what_is_known_of_its_datagrams(
    journal: Journal, shown: list[dict[str, Any]]
) -> None:
    journal.sent(frame(), sent(), STAGES)
    journal.closed(Closed(5, None, Report(5, 10, 10, 0), 10))
    (record,) = shown
    assert list(record) == KEYS
    assert (record["outcome"], record["top5"], record["latency_ms"]) == ("timeout", [], None)
    assert record["datagrams"]["lost"] == 0
    assert record["packets"] == {"total": 20, "dropped_by_plan": 10, "recovered": None, "missing": None}
    assert record["stages_ms"] == STAGES


def test_no_more_datagrams_have_arrived_than_were_sent_whatever_a_report_says(
    journal: Journal, shown: list[dict[str, Any]]
) -> None:
    journal.sent(frame(), sent(), STAGES)
    journal.closed(Closed(5, None, Report(5, 10, 65535, 0), 10))
    assert shown[0]["datagrams"] == {"sent": 10, "parity": 5, "received": 10, "lost": 0, "asked": 0}
    assert journal.datagrams["received"] == 10


def test_a_frame_whose_link_was_lost_in_the_middle_counts_only_the_datagrams_that_left(
    journal: Journal, shown: list[dict[str, Any]]
) -> None:
    journal.sent(frame(), sent(), STAGES)
    journal.closed(Closed(5, None, None, 3))
    assert shown[0]["datagrams"] == {"sent": 3, "parity": 5, "received": None, "lost": None, "asked": 0}
    assert shown[0]["bytes"] == 3 * DATAGRAM_BYTES


def test_datagrams_that_the_cloud_asked_for_are_counted_apart_from_the_parity_that_was_sent_unasked(
    journal: Journal, shown: list[dict[str, Any]]
) -> None:
    for tensor, count in ((5, 8), (6, 9)):
        in_reserve = replace(plan(), reserve=2)
        journal.sent(frame(), Sent(7, tensor, in_reserve, DATAGRAM_BYTES), STAGES)
        journal.closed(Closed(tensor, None, Report(tensor, count, 7, 2), count))
    assert [record["datagrams"]["asked"] for record in shown] == [0, 1]
    assert shown[1]["datagrams"] == {"sent": 9, "parity": 3, "received": 7, "lost": 2, "asked": 1}


def test_datagrams_that_were_asked_for_and_came_after_the_report_are_not_lost(
    journal: Journal, shown: list[dict[str, Any]]
) -> None:
    journal.sent(frame(), Sent(7, 5, replace(plan(), reserve=2), DATAGRAM_BYTES), STAGES)
    journal.closed(Closed(5, None, Report(5, 8, 7, 1), 10))
    assert shown[0]["datagrams"] == {"sent": 10, "parity": 3, "received": 7, "lost": 1, "asked": 2}


def test_a_frame_for_which_the_link_decided_says_why_and_others_say_nothing() -> None:
    stories: list[Story] = []
    journal = Journal(None, HEAD, stories.append)
    why = {"loss": 0.22, "burst": 6.0, "budget_kbit_s": 900.0, "expected": 0.961}
    for tensor, reasons in ((5, why), (6, {})):
        journal.sent(frame(), sent(tensor)._replace(why=reasons), STAGES)
        journal.closed(Closed(tensor, None, None, 10))
    journal.unsent(frame())
    assert [story.why for story in stories] == [
        "loss 22.0 % in runs of 6.0, 96.1 % expected, 10 datagrams of which 5 parity, budget 900 kbit/s",
        "",
        "",
    ]
    assert [story.record().get("link") for story in stories] == [why, None, None]


def test_a_frame_that_was_never_sent_has_no_tensor_no_packets_and_no_datagrams(
    journal: Journal, shown: list[dict[str, Any]]
) -> None:
    journal.unsent(frame())
    (record,) = shown
    assert list(record) == KEYS
    assert (record["session"], record["tensor"], record["outcome"], record["bytes"]) == (None, None, "timeout", 0)
    assert record["packets"] == {"total": 0, "dropped_by_plan": 0, "recovered": None, "missing": None}
    assert record["datagrams"] == {"sent": 0, "parity": 0, "received": None, "lost": None, "asked": 0}


def test_totals_count_every_outcome_and_add_up_what_is_known(journal: Journal) -> None:
    for tensor in (0, 1):
        journal.sent(frame(tensor), sent(tensor), STAGES)
    journal.answered(Answered(0, result(0), CAT))
    journal.closed(Closed(0, result(0), Report(0, 10, 7, 2), 10, CAT))
    journal.closed(Closed(1, None, None, 10))
    journal.unsent(frame(2))
    assert journal.outcomes == {"complete": 1, "timeout": 2}
    assert journal.packets == {"total": 40, "dropped_by_plan": 20, "recovered": 4, "missing": 1}
    assert journal.datagrams == {"sent": 20, "parity": 10, "received": 7, "lost": 3}


def test_remarks_end_every_record_of_frames_that_were_sent_and_of_others(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path) as file:
        journal = Journal(file, HEAD, lambda story: None, {"insecure": True})
        journal.sent(frame(), sent(), STAGES)
        journal.closed(Closed(5, None, None, 10))
        journal.unsent(frame())
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [list(record) for record in records] == 2 * [[*WRITTEN, "insecure"]]
    assert [record["insecure"] for record in records] == [True, True]


def test_a_records_time_is_that_of_the_answer_or_of_giving_up_and_not_that_of_the_report(tmp_path: Path) -> None:
    moments: list[float] = []

    def clock(at: float) -> float:
        moments.append(at)
        return 1767323045.678

    path = tmp_path / "out.jsonl"
    with ResultsFile(path) as file:
        journal = Journal(file, HEAD, lambda story: None, clock=clock)
        journal.sent(frame(), sent(), STAGES)
        journal.answered(Answered(5, result(), CAT))
        answered_by = time.monotonic()
        journal.closed(Closed(5, result(), Report(5, 10, 7, 2), 10, CAT))
        journal.unsent(frame())
    assert {json.loads(line)["time"] for line in path.read_text().splitlines()} == {"2026-01-02T03:04:05.678Z"}
    assert moments[0] <= answered_by <= moments[1] <= time.monotonic()


def test_records_are_whole_lines_of_the_results_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path) as file:
        journal = Journal(file, HEAD, lambda story: None)
        journal.unsent(frame(0))
        journal.unsent(frame(1))
        assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [0, 1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_what_the_disk_does_not_take_is_neither_counted_nor_shown(shown: list[dict[str, Any]]) -> None:
    with ResultsFile("/dev/full") as file:
        journal = Journal(file, HEAD, lambda story: shown.append(story.record()))
        with pytest.raises(GradfecError, match="0 results were recorded before"):
            journal.unsent(frame())
    assert (journal.outcomes, shown) == ({}, [])
