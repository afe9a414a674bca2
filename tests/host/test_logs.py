"""The daemons' logs: lines for people, objects for programs, and never a key."""

from __future__ import annotations

import json
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

from gradfec_common.errors import GradfecError
from gradfec_common.keys import TOKEN_PREFIX, new_key
from gradfec_common.session.handshake import HandshakeKey
from gradfec_host import logs
from gradfec_host.console import log_format_option, log_level_option, plain_errors
from gradfec_host.logs import Log, in_words, printable

LOCAL_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (.*)")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")  # RFC 3339


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    logs.close()


def said(body: object, *options: str) -> Result:
    """What a command says whose log is configured by `options`, and whose work is `body`."""

    @click.command()
    @log_format_option
    @log_level_option
    @plain_errors
    def command(log_format: str, log_level: str) -> None:
        body(logs.configure("gradfec-edge", log_format, log_level))  # type: ignore[operator]

    return CliRunner().invoke(command, options)


def everything(log: Log) -> None:
    log.debug("a frame", event="frame", latency_ms=2.5)
    log.info("listening", event="started", udp="batched", keys=2)
    log.of("door").warning("is silent", event="link_lost")
    log.error("no answer", event="no_answer")
    raise GradfecError("the disk is full")


def test_as_text_each_message_is_a_line_with_its_level_and_the_error_is_the_last() -> None:
    result = said(everything)
    assert result.exit_code == 1
    lines = [LOCAL_TIME.fullmatch(line) for line in result.stderr.splitlines()]
    assert [line and line[2] for line in lines] == [
        "gradfec-edge: listening",
        "gradfec-edge: door: warning: is silent",
        "gradfec-edge: error: no answer",
        "error: the disk is full",
    ]


def test_the_time_of_a_line_is_that_of_the_clock_on_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    record = logging.makeLogRecord({"msg": "listening", "levelno": logging.INFO, "created": 1_800_000_000.9})
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    try:
        assert logs.TextFormatter("gradfec-edge").format(record) == "2027-01-15 10:00:00 gradfec-edge: listening"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_as_json_each_message_is_an_object_with_its_time_and_fields_and_so_is_the_error() -> None:
    result = said(everything, "--log-format", "json", "--log-level", "debug")
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert all(MOMENT.fullmatch(line.pop("time")) for line in lines)
    assert {line.pop("daemon") for line in lines} == {"gradfec-edge"}
    assert lines == [
        {"level": "debug", "event": "frame", "message": "a frame", "latency_ms": 2.5},
        {"level": "info", "event": "started", "message": "listening", "udp": "batched", "keys": 2},
        {"level": "warning", "event": "link_lost", "message": "is silent", "camera": "door"},
        {"level": "error", "event": "no_answer", "message": "no answer"},
        {"level": "error", "event": "failed", "message": "the disk is full"},
    ]


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["frame", "started", "link_lost", "no_answer", "failed"]),
        ("info", ["started", "link_lost", "no_answer", "failed"]),
        ("warning", ["link_lost", "no_answer", "failed"]),
        ("error", ["no_answer", "failed"]),
    ],
)
def test_below_the_level_only_the_reason_for_the_end_is_logged(level: str, events: list[str]) -> None:
    result = said(everything, "--log-format", "json", "--log-level", level)
    assert [json.loads(line)["event"] for line in result.stderr.splitlines()] == events


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_key_that_somebody_put_where_a_name_belongs_is_struck_out(form: str) -> None:
    key = new_key(os.urandom)

    def body(log: Log) -> None:
        log.info(f"key file {key.token}", event="started", path=key.token.upper(), key=key, handshake=HandshakeKey(key))
        raise GradfecError(f"there is no key at {key.token[:40]}")

    result = said(body, "--log-format", form)
    assert TOKEN_PREFIX in result.stderr
    assert key.token[9:30] not in result.stderr.lower()
    assert key.secret.hex() not in result.stderr
    assert repr(key.secret)[2:-1] not in result.stderr


def test_without_a_log_too_nothing_untrusted_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logs.fail("the layer \x1b]0;title\x07 is none\nerror: forged")
    logs.say("found", "the layer \x1b[31m")
    assert capsys.readouterr().err == "error: the layer  ]0;title  is none error: forged\nthe layer  [31m\n"


def test_an_error_before_the_log_is_configured_hides_a_key_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.fail(f"no such file: {new_key(os.urandom).token}")
    assert capsys.readouterr().err == "error: no such file: gradfec1-***\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_message_is_one_line_and_steers_no_terminal(form: str) -> None:
    def body(log: Log) -> None:
        log.info("two\nlines \x1b[2J\x07 \x9b2J \u202e", event="started", edge="\x1b]0;title\x07\n")

    result = said(body, "--log-format", form)
    assert result.stderr.count("\n") == 1
    assert printable(result.stderr.strip()) == result.stderr.strip()


def test_where_the_log_is_json_our_own_faults_and_what_libraries_warn_of_are_objects_too() -> None:
    def body(log: Log) -> None:
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.getLogger("asyncio").error("a task %s", "failed")
        raise RuntimeError("bug")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = said(body, "--log-format", "json")
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("py.warnings", "warning"),
        ("asyncio", "error"),
        ("crashed", "error"),
    ]
    assert "old" in lines[0]["message"]
    assert lines[1]["message"] == "a task failed"
    assert "RuntimeError: bug" in lines[2]["traceback"]
    assert result.exit_code == 1


def test_a_bug_keeps_its_traceback_where_the_log_is_for_people() -> None:
    def body(log: Log) -> None:
        raise RuntimeError("bug")

    assert isinstance(said(body).exception, RuntimeError)


def test_totals_are_a_line_for_each_kind_of_thing_that_there_was_in_plain_words() -> None:
    totals = {
        "packets": {"total": 20, "recovered": 0},
        "datagrams": {"sent": 9, "parity": 3, "received": 8, "lost": 1},
        "datagrams_received": {"bad_checksum": 2, "hello": 1},
        "datagrams_sent": {"symbol": 9, "control": 2, "control_failed": 0},
        "datagrams_dropped_by_kernel": {"kernel": 0},
        "tensors": {},
        "answers_to_http": {"delivered": 7, "dropped": 0},
    }
    assert [line[20:] for line in said(lambda log: log.totals(totals)).stderr.splitlines()] == [
        "gradfec-edge: frames' datagrams: 9 in all, 3 of them parity, 8 received, 1 lost",
        "gradfec-edge: datagrams received: 2 bad checksum, 1 hello",
        "gradfec-edge: datagrams sent: 9 of frames, 2 of control messages",
        "gradfec-edge: answers to the page and its API: 7 delivered",
    ]
    lines = said(lambda log: log.totals(totals), "--log-format", "json").stderr.splitlines()
    assert json.loads(lines[1])["counts"] == {"bad_checksum": 2, "hello": 1}


def test_settings_are_written_as_people_write_them() -> None:
    settings = {"key_ids": ["ab", "cd"], "insecure": False, "compensate": True, "fps": None, "rate": 2.5, "none": []}
    assert in_words(settings) == "key ids ab cd, insecure no, compensate yes, rate 2.5, none none"  # nobody has set fps
    assert in_words({"key_ids": [*"abcde"]}) == "key ids 5"


def test_a_closed_standard_error_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = logs.configure("gradfec-edge")
    found = logs.handler()
    assert found

    def broken(text: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(found.stream, "write", broken)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.info("nobody hears this", event="started")
