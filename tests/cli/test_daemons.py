"""Child processes: waited for, listened to, stopped, and never left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gradfec_cli.daemons import Daemon, daemon, free_port
from gradfec_common.errors import GradfecError
from gradfec_host.key_files import KEY_FILE_VARIABLE, parse_key

SAY = "import sys, time; say = lambda *words: print(*words, file=sys.stderr, flush=True); "
STAY = "; time.sleep(600)"


def python(script: str) -> list[str]:
    return [sys.executable, "-c", SAY + script]


def test_a_daemon_is_there_from_when_it_says_that_it_is_ready() -> None:
    with daemon("toy", ready="listening on", program=python("say('listening on 9000')" + STAY)) as toy:
        assert toy.process.poll() is None
        assert [*toy.said] == ["listening on 9000"]


def test_after_the_block_it_is_gone_whatever_happened_in_it() -> None:
    with (
        pytest.raises(ZeroDivisionError),
        daemon("toy", ready="here", program=python("say('here')" + STAY)) as toy,
    ):
        _ = 1 / 0
    assert toy.process.poll() is not None


def test_a_daemon_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradfec_cli.daemons.STOP_S", 0.1)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); say('here')"
    with daemon("toy", ready="here", program=python(deaf + STAY)) as toy:
        pass
    assert toy.process.returncode == -9


def test_one_that_ends_before_it_is_ready_is_an_error_with_its_own_last_words() -> None:
    script = "say('loading'); say('Usage: toy'); say(); say('Error: no such option'); sys.exit(2)"
    with (
        pytest.raises(GradfecError, match=r"^toy ended with exit code 2: no such option$"),
        daemon("toy", ready="listening on", program=python(script)),
    ):
        pass


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("say('one'); say('two'); say('three'); say('four')", "toy ended with exit code 0: two / three / four"),
        ("", "toy ended with exit code 0: it logged nothing"),
    ],
)
def test_without_an_error_the_last_lines_tell_how_it_ended(script: str, words: str) -> None:
    with daemon("toy", program=python(script)) as toy:
        assert [*toy.lines()] == []
        assert str(toy.failure()) == words


def test_one_that_never_gets_ready_is_an_error_that_does_not_call_it_ended() -> None:
    with daemon("toy", ready="loading", program=python("say('loading')" + STAY)) as toy:
        with pytest.raises(GradfecError, match="toy hangs: loading"):
            toy.wait_until_it_says("listening on", timeout_s=0.01)
        assert toy.process.poll() is None


def test_totals_are_the_last_line_of_a_daemon_that_stops_when_asked_to() -> None:
    script = (
        "import signal; signal.signal(signal.SIGTERM, lambda *a: (print('{\"frames\": 3}'), sys.exit()));"
        "print('{\"frame\": 1}'); say('here')"
    )
    with daemon("toy", ready="here", program=python(script + STAY)) as toy:
        assert toy.totals() == {"frames": 3}


def test_totals_of_one_that_failed_are_its_error() -> None:
    with daemon("toy", program=python("say('error: the disk is full'); sys.exit(1)")) as toy:
        assert [*toy.lines()] == []
        with pytest.raises(GradfecError, match="exit code 1: the disk is full"):
            toy.totals()


def test_all_that_is_said_is_heard_even_while_it_is_being_stopped() -> None:
    script = (
        "import signal; signal.signal(signal.SIGTERM, lambda *a: ([say('last words', n) for n in range(50)],"
        "sys.exit())); say('here')"
    )
    with daemon("toy", ready="here", program=python(script + STAY)) as toy:
        toy.stop()
    assert [*toy.said] == ["here", *(f"last words {n}" for n in range(50))]


def test_standard_output_that_nobody_reads_does_not_keep_a_daemon_from_ending() -> None:
    script = "import signal; signal.signal(signal.SIGTERM, lambda *a: (print('x' * 300_000), sys.exit())); say('here')"
    with daemon("toy", ready="here", program=python(script + STAY)) as toy:
        assert len(toy.stop()[0]) == 300_000
    assert toy.process.returncode == 0


def test_the_daemons_of_a_process_share_a_key_that_is_gone_when_the_process_is(tmp_path: Path) -> None:
    script = (
        "from gradfec_cli.daemons import daemon; show = ['sh', '-c', 'cat \"$GRADFEC_KEY_FILE\"; "
        'echo "$GRADFEC_KEY_FILE"; stat -c %a "$GRADFEC_KEY_FILE"\']\n'
        "for name in ('one', 'other'):\n"
        "    with daemon(name, program=show) as toy:\n"
        "        print(*toy.lines(), sep='|')\n"
    )
    elsewhere = {**os.environ, KEY_FILE_VARIABLE: str(tmp_path / "key of the user")}
    one, other = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=elsewhere)
        for _ in range(2)
    )
    keys = {*one.stdout.splitlines()}, {*other.stdout.splitlines()}
    assert [len(of_process) for of_process in keys] == [1, 1]
    assert keys[0] != keys[1]
    *content, path, mode = keys[0].pop().split("|")
    assert parse_key("\n".join(content).encode())
    assert mode == "600"
    assert not Path(path).exists()
    assert not (tmp_path / "key of the user").exists()


def test_the_names_of_the_daemons_are_those_of_their_commands() -> None:
    for name in ("gradfec-edge", "gradfec-cloud", "gradfec-netem"):
        toy = Daemon(name, ["--help"])
        assert any("--help" in line for line in toy.lines()), name
        assert toy.process.wait() == 0


def test_a_free_port_can_be_bound() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", free_port()))


def test_a_stopped_daemon_keeps_no_descriptor_open() -> None:
    def count() -> int:
        return len([*Path("/dev/fd").iterdir()])

    before = count()
    for _ in range(3):
        with daemon("toy", ready="here", program=python("say('here')" + STAY)):
            pass
    assert count() <= before


def test_a_daemon_that_prints_more_than_a_pipe_holds_is_not_held_up() -> None:
    chatter = "[print('x' * 1000, flush=True) for _ in range(1000)]; say('done')"
    with daemon("toy", ready="done", program=python(chatter + STAY)) as toy:
        assert toy.stop() == ["x" * 1000] * 1000
