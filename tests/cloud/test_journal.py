"""The cloud's journal: log lines, records and metrics of its core's events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.common.answers import TIGER_CAT
from tests.exported import Cloud

from gradfec_cloud.access import by_id
from gradfec_cloud.driver import OtherVersion, UnknownKey
from gradfec_cloud.journal import LINES_A_MINUTE, Journal
from gradfec_cloud.keyring import Keyring
from gradfec_cloud.outward.news import Answered, Linked, News
from gradfec_common.errors import GradfecError
from gradfec_common.keys import INSECURE_KEY, Key
from gradfec_common.session.events import Finished, SessionEnded, SessionMoved, SessionOpened
from gradfec_common.session.handshake import HandshakeKey
from gradfec_common.wire import VERSION, Result
from gradfec_host.logs import Log
from gradfec_host.results import ResultsFile

OURS, THEIRS = Key(bytes(range(32))), Key(bytes(32))
PACKETS = {"total": 10, "dropped_by_plan": 2, "recovered": 2, "missing": 0}
DATAGRAMS = {"sent": 5, "parity": 1, "received": 4, "lost": 1}
RESULT = Result(5, "complete", TIGER_CAT.packed(), 1, 0, {"decode": 1.5})
FINISHED = Finished("garden", 7, 5, PACKETS, DATAGRAMS, RESULT, TIGER_CAT, 0.0123456, 1, 4000, 20.0)


def journal(
    results: ResultsFile | None = None,
    key: Key = OURS,
    label: str = "",
    tell: Callable[[News], None] = lambda news: None,
    now: Callable[[], float] = lambda: 0.0,
) -> tuple[Journal, Cloud]:
    cloud, log = Cloud(), Log("gradfec-cloud")
    keyring = Keyring(lambda: by_id(HandshakeKey(key, label)), cloud.metrics, log)
    return Journal(results, keyring, cloud.metrics, log, lambda at: 1767323045.678 + at - 20, tell, now), cloud


def test_edges_that_connect_move_and_leave_are_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    written, cloud = journal()
    written.saw(SessionOpened(7, "garden", ("192.0.2.7", 4000)))
    written.saw(SessionMoved(7, "garden", ("2001:db8::7", 4000, 0, 0)))
    written.saw(SessionEnded(7, "garden", "bye"))
    assert caplog.messages == [
        "edge 'garden' connected",
        "edge 'garden' has moved to [2001:db8::7]:4000",
        "edge 'garden' gone (bye)",
    ]
    assert [record.fields for record in caplog.records] == [
        {"edge": "garden", "session": 7, "address": "192.0.2.7:4000"},
        {"edge": "garden", "session": 7, "address": "[2001:db8::7]:4000"},
        {"edge": "garden", "session": 7, "reason": "bye"},
    ]
    for name, labels in (("opened", {}), ("moved", {}), ("ended", {"reason": "bye"})):
        sample = f"gradfec_cloud_sessions_{name}_total"
        assert (cloud.registry.get_sample_value(sample, labels) or 0) >= 1


def test_an_edge_that_comes_and_goes_all_the_time_is_left_out_and_hides_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    time = [3600.0]
    written, _ = journal(now=lambda: time[0])
    for session in range(1000):
        written.saw(SessionOpened(session, "restless", ("192.0.2.7", 4000)))
        written.saw(SessionEnded(session, "restless", "bye"))
    assert len(caplog.messages) == LINES_A_MINUTE + 1
    assert caplog.messages[-1].startswith("edge 'restless' comes and goes all the time")
    written.saw(SessionOpened(1000, "garden", ("192.0.2.8", 4000)))
    assert caplog.messages[-1] == "edge 'garden' connected"
    time[0] += 60
    written.saw(SessionOpened(1001, "restless", ("192.0.2.7", 4000)))
    assert caplog.messages[-1] == "edge 'restless' connected"


def test_a_sender_of_another_version_is_a_warning_that_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    written, _ = journal()
    written.saw(OtherVersion(2, ("192.0.2.7", 4000)))
    (record,) = caplog.records
    assert record.getMessage() == (
        f"192.0.2.7:4000 speaks version 2 of the protocol and gets no reply: this cloud speaks version {VERSION}; "
        "install the same gradfec on both sides"
    )
    assert (record.levelname, record.event) == ("WARNING", "other_version")
    assert record.fields == {"address": "192.0.2.7:4000", "version": 2}


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (OURS, THEIRS, f"has the key {THEIRS.id.hex()}, which this cloud does not have, and gets no reply: `gradfec"),
        (OURS, INSECURE_KEY, "runs with --insecure and gets no reply: `gradfec keygen --show` here"),
        (INSECURE_KEY, THEIRS, "and gets no reply: this cloud runs with --insecure: give both sides a key"),
    ],
)
def test_a_sender_with_an_unknown_key_is_a_warning_that_says_what_to_do(
    ours: Key, theirs: Key, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    written, _ = journal(key=ours)
    written.saw(UnknownKey(theirs.id, ("192.0.2.7", 4000)))
    (record,) = caplog.records
    assert record.getMessage().startswith("192.0.2.7:4000 ")
    assert words in record.getMessage()
    assert (record.levelname, record.event) == ("WARNING", "unknown_key")
    assert record.fields == {"address": "192.0.2.7:4000", "key_id": theirs.id.hex()}


def test_where_each_edge_has_a_key_of_its_own_the_advice_names_its_file(caplog: pytest.LogCaptureFixture) -> None:
    written, _ = journal(key=OURS, label="kitchen")
    written.saw(UnknownKey(THEIRS.id, ("192.0.2.7", 4000)))
    assert "`gradfec keygen --key-file DIR/NAME --show` here prints the right one" in caplog.messages[0]


@pytest.mark.parametrize("key", [Key(bytes(range(32))), INSECURE_KEY])
def test_an_answered_tensor_is_a_record(key: Key, tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "out.jsonl") as results:
        written, _ = journal(results, key)
        written.saw(SessionOpened(7, "garden", ("192.0.2.7", 4000)))
        written.saw(FINISHED)
    record = json.loads((tmp_path / "out.jsonl").read_text())
    assert record == {
        "time": "2026-01-02T03:04:05.678Z",  # when it was answered
        "edge": "garden",
        "session": 7,
        "tensor": 5,
        "outcome": "complete",
        "head": "classify",
        "top5": [{"class_index": 282, "label": "tiger cat", "score": 0.5}],
        "packets": PACKETS,
        "datagrams": DATAGRAMS,
        "bytes": 4000,
        "latency_ms": 12.346,
        "stages_ms": {"decode": 1.5},
        **({"insecure": True} if key is INSECURE_KEY else {}),
    }


def test_an_answered_tensor_is_told_as_its_record_with_and_without_a_results_file(tmp_path: Path) -> None:
    told: list[News] = []
    with ResultsFile(tmp_path / "out.jsonl") as results:
        for file in (results, None):
            written, _ = journal(file, tell=told.append)
            written.saw(SessionOpened(7, "garden", ("192.0.2.7", 4000)))
            written.saw(FINISHED)
    record = json.loads((tmp_path / "out.jsonl").read_text())
    assert [news for news in told if isinstance(news, Answered)] == [Answered("garden", record, TIGER_CAT.lines())] * 2


@pytest.mark.parametrize(("outcome", "is_told"), [("complete", True), ("partial", False)])
def test_a_second_look_is_a_record_that_names_the_first_and_is_told_if_it_is_of_a_whole_picture(
    outcome: str, is_told: bool, tmp_path: Path
) -> None:
    told: list[News] = []
    again = replace(FINISHED, tensor=9, result=replace(RESULT, tensor=9, outcome=outcome), first_tensor=5)
    with ResultsFile(tmp_path / "out.jsonl") as results:
        written, _ = journal(results, tell=told.append)
        written.saw(SessionOpened(7, "garden", ("192.0.2.7", 4000)))
        written.saw(FINISHED)
        written.saw(again)
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert "first_tensor" not in first
    assert (second["session"], second["tensor"], second["first_tensor"]) == (first["session"], 9, first["tensor"])
    assert second["outcome"] == outcome
    assert [*second].index("first_tensor") == [*second].index("tensor") + 1
    assert [news.record["tensor"] for news in told if isinstance(news, Answered)] == [5, 9][: 1 + is_told]


def test_an_edge_is_told_to_be_connected_as_long_as_it_has_a_session() -> None:
    told: list[News] = []
    written, _ = journal(tell=told.append)
    for event in (
        SessionOpened(7, "garden", ("192.0.2.7", 4000)),
        SessionOpened(8, "garden", ("192.0.2.8", 4000)),
        SessionEnded(7, "garden", "idle"),
        SessionEnded(8, "garden", "bye"),
    ):
        written.saw(event)
    assert told == [Linked("garden", connected) for connected in (True, True, True, False)]


def test_packets_and_datagrams_are_added_up_without_a_results_file_too() -> None:
    written, _ = journal()
    written.saw(SessionOpened(7, "garden", ("192.0.2.7", 4000)))
    for _ in range(3):
        written.saw(FINISHED)
    assert written.packets == {name: 3 * count for name, count in PACKETS.items()}
    assert written.datagrams == {name: 3 * count for name, count in DATAGRAMS.items()}


def test_a_record_that_cannot_be_written_is_an_error_but_counted(tmp_path: Path) -> None:
    results = ResultsFile("/dev/full")
    written, _ = journal(results)
    written.saw(SessionOpened(7, "garden", ("192.0.2.7", 4000)))
    with pytest.raises(GradfecError, match="/dev/full"):
        written.saw(FINISHED)
    assert (written.packets["total"], written.datagrams["sent"]) == (10, 5)
    results.close()
