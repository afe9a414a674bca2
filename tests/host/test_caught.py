"""What libraries write to standard error from C becomes entries of the log, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gradfec_host.caught import PIPE_BYTES

SOON_S = 60.0  # a safety net
BEGIN = """
import ctypes, os, sys, threading, time
from gradfec_host import logs
from gradfec_host.caught import reading
from gradfec_host.quiet import quiet_stderr

def library(text):
    os.write(2, text.encode() + b"\\n")

log = logs.configure("gradfec-edge", {form!r}, {level!r})
"""
CLOSE = "\nlogs.close()\n"


def process(script: str, form: str = "json", level: str = "info") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN.format(form=form, level=level) + script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SOON_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )


def told(script: str, **options: str) -> list[tuple[str, str | None]]:
    """Return the message and the file of each object that a process with a log writes."""
    done = process(script + CLOSE, **options)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["event"] for line in lines} <= {"library", "ours"}
    return [(line["message"], line.get("file")) for line in lines]


def test_each_line_is_an_object_with_the_file_that_was_read_and_is_told_once_for_a_file() -> None:
    script = """
for name in ("a.png", "b.png", "a.png"):
    with reading(name):
        library("libpng error: bad CRC at 0x" + str(time.monotonic_ns()))
        library("libpng warning: old")
library("unasked")
library("unasked")
log.info("ours", event="ours")
"""
    lines = told(script)
    assert sorted(line for line in lines if line[0] != "ours") == sorted(
        [
            *((line, name) for name in ("a.png", "b.png") for line in [f"{name}: libpng warning: old"]),
            ("a library: unasked", None),
            *(line for line in lines if "bad CRC" in line[0]),
        ]
    )
    assert [name for line, name in lines if "bad CRC" in line] == ["a.png", "b.png"]


def test_files_that_are_read_at_the_same_time_are_all_named() -> None:
    script = """
with reading("a.png"):
    with reading("b.png"):
        library("libpng error: bad CRC")
    os.write(2, b"half a line")
os.write(2, b"the rest\\n")
"""
    assert told(script) == [
        ("a.png or b.png: libpng error: bad CRC", "a.png or b.png"),
        ("a.png: half a line", "a.png"),
        ("a library: the rest", None),
    ]


def test_in_a_log_for_people_it_is_a_warning_and_python_writes_past_it() -> None:
    script = """
library("libpng error: bad CRC")
logs.caught.flush()
print("a line of Python's", file=sys.stderr)
logs.fail("the disk is full")
"""
    lines = process(script + CLOSE, form="text").stderr.splitlines()
    assert [line[20:] for line in lines if line[:2] == "20"] == [
        "gradfec-edge: warning: a library: libpng error: bad CRC",
        "error: the disk is full",
    ]
    assert lines[1] == "a line of Python's"


def test_the_error_that_ends_a_daemon_comes_after_what_libraries_wrote_before() -> None:
    done = process('for n in range(100):\n    library("line " + chr(97 + n % 26) * n)\nlogs.fail("the disk is full")')
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(lines) == 101
    assert lines[-1]["message"] == "the disk is full"


def test_a_library_that_writes_much_and_holds_pythons_lock_does_not_hang() -> None:
    script = f"""
write = ctypes.PyDLL(None).write  # keeps the lock, so that nobody reads the pipe meanwhile
text = b"x" * 1000 + b"\\n"
refused = sum(write(2, text, len(text)) < 0 for n in range({3 * PIPE_BYTES // 1000}))
assert refused, "the pipe took everything"
logs.caught.flush()
library("later")
"""
    (much, _), later = told(script)
    assert len(much) > 1000
    assert later == ("a library: later", None)


def test_a_line_is_told_at_once_even_if_nothing_else_happens() -> None:
    script = """
library("libpng error: bad CRC")
while not logs.handler()._said:
    time.sleep(0.01)
os._exit(0)
"""
    assert told(script) == [("a library: libpng error: bad CRC", None)]


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("crash", ["os.abort()", "ctypes.string_at(0)", "logs.close(); os.abort()"])
def test_a_crash_shows_pythons_stacks(crash: str, form: str) -> None:
    script = f"""
def decode():
    {crash}

with quiet_stderr(), reading("a.png"):
    library("libpng error: bad CRC")
    logs.caught.flush()
    decode()
"""
    done = process(script, form, "debug")
    assert done.returncode < 0
    assert "a.png: libpng error: bad CRC" in done.stderr
    assert "Fatal Python error" in done.stderr
    assert "in decode\n" in done.stderr


def test_notices_of_libraries_that_start_are_for_whoever_debugs() -> None:
    script = 'with quiet_stderr():\n    library("CUDA is not there")\nlibrary("but this matters")'
    assert told(script, level="info") == [("a library: but this matters", None)]
    assert told(script, level="debug")[0] == ("a library: CUDA is not there", None)


def test_without_a_log_notices_are_shown_only_if_there_is_an_error() -> None:
    script = """
logs.close()
with quiet_stderr():
    library("held back for good")
try:
    with quiet_stderr():
        library("the reason")
        raise ImportError
except ImportError:
    library("after it")
"""
    done = process(script)
    assert done.stderr.splitlines() == ["the reason", "after it"]


def test_when_the_reading_of_a_file_ends_after_the_log_another_file_may_have_the_pipes_descriptor() -> None:
    script = """
pipe = logs.caught._at_work[0]._read_end
with reading("a.png"):
    logs.close()
    ours, theirs = os.pipe()
    os.dup2(ours, pipe)
    os.write(theirs, b"not ours")
print(os.read(pipe, 100).decode())
"""
    done = process(script)
    assert (done.stdout, done.stderr) == ("not ours\n", "")


def test_at_the_end_standard_error_is_what_it_was_and_nothing_is_left_running() -> None:
    script = """
logs.close()
library("raw")
log = logs.configure("gradfec-edge", "json")
fds = len(os.listdir("/proc/self/fd"))
for n in range(5):
    logs.close()
    log = logs.configure("gradfec-edge", "json")
assert len(os.listdir("/proc/self/fd")) == fds
logs.close()
print(threading.active_count())
"""
    done = process(script)
    assert (done.returncode, done.stderr) == (0, "raw\n")
    assert done.stdout.split() == ["1"]
