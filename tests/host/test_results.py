"""The results file: what is recorded stays recorded, and what cannot be recorded is an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.errors import GradfecError
from gradfec_host.results import ResultsFile, datagram_fates, packet_fates


def run(code: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[Any]:
    lines = "import os, sys, resource\nfrom gradfec_host.results import ResultsFile\n" + code
    return subprocess.run([sys.executable, "-c", lines, *map(str, arguments)], check=False, **options)


def test_each_record_is_one_compact_line_with_its_keys_in_the_order_given(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsFile(path) as results:
        results.write({"frame": 0, "class": "tigre é 🐯", "top": [1, 0.5], "a": None})
        results.write({"frame": 1})
        assert results.count == 2
    assert path.read_text("utf-8") == '{"frame":0,"class":"tigre é 🐯","top":[1,0.5],"a":null}\n{"frame":1}\n'


def test_a_record_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results = ResultsFile(path)
    results.write({"frame": 0})
    assert path.read_text() == '{"frame":0}\n'
    results.close()


def test_a_killed_process_loses_nothing_it_recorded(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    code = 'r = ResultsFile(sys.argv[1])\nfor n in range(100): r.write({"n": n})\nos.kill(os.getpid(), 9)'
    assert run(code, path).returncode == -signal.SIGKILL
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == list(range(100))


def test_a_restart_appends(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for n in range(3):
        with ResultsFile(str(path)) as results:
            results.write({"n": n})
            assert results.count == 1
    assert path.read_text() == '{"n":0}\n{"n":1}\n{"n":2}\n'


@given(earlier=st.binary(max_size=60))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_whatever_an_earlier_run_left_stays_and_the_new_record_has_a_line_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, earlier: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "earlier.jsonl"
    path.write_bytes(earlier)
    with ResultsFile(path) as results:
        results.write({"n": 1})
        results.write({"n": 2})
    torn = bool(earlier) and not earlier.endswith(b"\n")
    assert path.read_bytes() == earlier + b"\n" * torn + b'{"n":1}\n{"n":2}\n'


def test_a_run_that_records_nothing_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"n":1}\n{"n"')
    ResultsFile(path).close()
    assert path.read_text() == '{"n":1}\n{"n"'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {1, 2}])
def test_what_json_cannot_hold_is_refused_and_nothing_of_it_is_written(tmp_path: Path, value: object) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsFile(path) as results:
        with pytest.raises((ValueError, TypeError)):
            results.write({"n": 1, "score": value})
        results.write({"n": 2})
        assert results.count == 1
    assert path.read_text() == '{"n":2}\n'


def test_a_file_name_that_is_not_utf8_survives_the_round_trip(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    with ResultsFile(tmp_path / "results.jsonl") as results:
        results.write({"source": name})
    assert json.loads((tmp_path / "results.jsonl").read_text("utf-8"))["source"] == name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_says_how_much_was_recorded_and_what_to_do() -> None:
    with ResultsFile("/dev/full") as results, pytest.raises(GradfecError) as caught:
        results.write({"n": 1})
    assert str(caught.value) == (
        "cannot write results to /dev/full: No space left on device; 0 results were recorded before; "
        "free space, or choose another --results"
    )


LIMIT = """
import json, signal
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
results = ResultsFile(sys.argv[1])
for n in range(100, 200):
    try:
        results.write({"number": n, "some": "text"})
    except Exception as error:
        print(type(error).__name__, error)
        print(results.count)
        break
"""


def test_a_line_that_the_disk_took_half_of_is_cut_off_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    done = run(LIMIT, path, capture_output=True, text=True)
    message, count = done.stdout.splitlines()
    assert message.startswith(f"GradfecError cannot write results to {path}: File too large; 3 results were recorded")
    assert count == "3"
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [100, 101, 102]


def test_a_half_written_line_that_cannot_be_cut_off_is_ended_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    results = ResultsFile(path)
    results.write({"n": 1})
    real_write, writes = os.write, iter([5])

    def write(fd: int, data: bytes) -> int:
        size = next(writes, None)
        if size is None:
            raise OSError(28, "No space left on device")
        return real_write(fd, data[:size])

    def ftruncate(fd: int, size: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        patch.setattr(os, "ftruncate", ftruncate)
        with pytest.raises(GradfecError, match="1 result was recorded before; free space"):
            results.write({"n": 2})
    results.write({"n": 3})
    results.close()
    assert path.read_text() == '{"n":1}\n{"n":\n{"n":3}\n'
    assert results.count == 2


def test_a_short_write_whose_rest_is_taken_is_one_whole_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    real_write, sizes = os.write, iter([3, 100])
    with ResultsFile(path) as results, monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real_write(fd, data[: next(sizes)]))
        results.write({"n": 1})
    assert path.read_text() == '{"n":1}\n'


def test_cutting_off_spares_what_another_process_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    results = ResultsFile(path)
    real_write, calls = os.write, iter(range(2))

    def write(fd: int, data: bytes) -> int:
        if next(calls) == 0:
            return real_write(fd, data[:4])
        with path.open("ab") as other:
            other.write(b"OTHER\n")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(GradfecError):
            results.write({"n": 1})
    results.close()
    assert path.read_bytes() == b'{"n"OTHER\n'


def test_a_folder_that_does_not_exist_is_named_when_opening(tmp_path: Path) -> None:
    with pytest.raises(GradfecError, match=f"there is no folder {tmp_path / 'nowhere'}"):
        ResultsFile(tmp_path / "nowhere" / "results.jsonl")


def test_a_folder_instead_of_a_file_is_an_error_when_opening(tmp_path: Path) -> None:
    with pytest.raises(GradfecError, match=f"cannot write results to {tmp_path}: Is a directory"):
        ResultsFile(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_may_not_be_written_is_an_error_when_opening(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.touch(0o400)
    with pytest.raises(GradfecError, match="Permission denied"):
        ResultsFile(path)


WRITE_TWO = 'with ResultsFile("-") as r:\n    r.write({"n": 1})\n    r.write({"n": 2})\nos.write(1, b"open\\n")'


def test_standard_output_takes_lines_and_stays_open() -> None:
    assert run(WRITE_TWO, capture_output=True).stdout == b'{"n":1}\n{"n":2}\nopen\n'


def test_redirected_standard_output_keeps_what_comes_after_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "out"
    code = """
real, sizes = os.write, iter([4])
def short(fd, data):
    for size in sizes:
        return real(fd, data[:size])
    raise OSError(28, "No space left on device")
r = ResultsFile("-")
r.write({"n": 1})
os.write = short
try: r.write({"n": 2})
except Exception: pass
os.write = real
r.write({"n": 3})
"""
    with path.open("wb") as out:
        assert run(code, stdout=out).returncode == 0
    assert path.read_bytes() == b'{"n":1}\n{"n":3}\n'


def test_a_pipe_is_written_to_if_somebody_reads_it_and_refused_if_nobody_does(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(GradfecError, match=r"cannot write results to .*pipe: nobody reads from this pipe"):
        ResultsFile(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with ResultsFile(pipe) as results:
        results.write({"frame": 1})
        assert os.read(reader, 100) == b'{"frame":1}\n'
    os.close(reader)


def test_a_closed_pipe_is_an_error_that_says_so() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run(WRITE_TWO, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert b"GradfecError: cannot write results to standard output: Broken pipe; 0 results" in done.stderr


def test_a_closed_standard_output_is_an_error_when_opening() -> None:
    code = 'os.close(1)\ntry: ResultsFile("-")\nexcept Exception as e: os.write(2, repr(e).encode())'
    done = run(code, stderr=subprocess.PIPE)
    assert b"GradfecError('cannot write results to standard output: Bad file descriptor" in done.stderr


def test_closing_twice_is_allowed_and_writing_after_it_is_not(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "results.jsonl")
    results.close()
    results.close()
    with pytest.raises(ValueError, match="closed"):
        results.write({"n": 1})


Counts = dict[str, int | None]


def packets(total: int, dropped: int, recovered: int | None, missing: int | None) -> Counts:
    return {"total": total, "dropped_by_plan": dropped, "recovered": recovered, "missing": missing}


def datagrams(sent: int, parity: int, received: int | None, lost: int | None) -> Counts:
    return {"sent": sent, "parity": parity, "received": received, "lost": lost}


@pytest.mark.parametrize(
    ("counts", "fates"),
    [
        (packets(100, 20, 10, 5), {"arrived": 65, "recovered": 10, "missing": 5, "dropped_by_plan": 20}),
        (packets(100, 20, None, None), {"unknown": 80, "dropped_by_plan": 20}),
        (packets(0, 0, None, None), {"unknown": 0, "dropped_by_plan": 0}),
    ],
    ids=["answered", "without an answer", "never sent"],
)
def test_each_packet_has_one_fate(counts: Counts, fates: dict[str, int]) -> None:
    assert packet_fates(counts) == fates


@pytest.mark.parametrize(
    ("counts", "fates"),
    [
        (datagrams(24, 8, 17, 7), {"received": 17, "lost": 7}),
        (datagrams(24, 8, None, None), {"unknown": 24}),
        (datagrams(0, 0, None, None), {"unknown": 0}),
    ],
    ids=["reported", "without a report", "never sent"],
)
def test_each_datagram_has_one_fate(counts: Counts, fates: dict[str, int]) -> None:
    assert datagram_fates(counts) == fates


def test_no_count_of_fates_is_below_0_whatever_the_other_side_says() -> None:
    assert min(datagram_fates(datagrams(110, 30, 999, -889)).values()) == 0
    assert min(packet_fates(packets(100, 20, 60, 60)).values()) == 0
