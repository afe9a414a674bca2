"""On a terminal the daemons show their status below whole log lines, and leave the terminal clean."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradfec_cli.daemons import free_port, own_key
from gradfec_cli.doctor.reach import has_cloud
from gradfec_common.networks import named_cut
from gradfec_common.session.handshake import HandshakeKey
from gradfec_host.console import Endpoint
from gradfec_host.key_files import read_key

from .endings import untimed
from .stubbed import stubbed
from .terminal import Terminal, on_terminal


def leaves_the_terminal_clean(terminal: Terminal, program: str) -> list[str]:
    """Press Ctrl-C, and check what is left on the screen; return its lines."""
    assert terminal.hid_the_cursor
    terminal.type(b"\x03")
    assert terminal.wait_until_it_ends() == 0
    assert not terminal.screen.cursor.hidden
    assert terminal.screen.cursor.x == 0
    lines = terminal.lines()
    assert " median " not in "".join(lines)  # the status is gone
    assert [line for line in lines if not re.match(rf"(\^C)?[\d-]+ [\d:]+ {program}: \S", line)] == []
    return [untimed(line.removeprefix("^C")) for line in lines]


def test_an_edge_shows_its_link_and_its_answers_and_each_log_line_stays_whole(photographs: Path) -> None:
    port = free_port()
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--loop", "--fps", "20", "--name", "door"]
    with on_terminal("gradfec-edge", *where, PATIENCE_S="600") as edge:
        edge.wait_until(
            lambda: re.search(r"door +looking +0\.0 +- +-\s+0 complete, 0 partial", edge.visible()) is not None
        )
        with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}"):
            edge.wait_until(lambda: re.search(r"door +\w.* [01]\.\d\d connected +\d+\.\d", edge.visible()) is not None)
            assert re.search(r" \d+\.\d % +\d+ ms +\w+", edge.visible()), edge.visible()
            assert re.search(r"[1-9]\d* complete, .*; \d+ kB a frame, \d+ kbit/s", edge.visible()), edge.visible()
            lines = leaves_the_terminal_clean(edge, "gradfec-edge")
    said = [line.removeprefix("gradfec-edge: ") for line in lines]
    assert re.fullmatch(
        rf"{photographs} -> 127\.0\.0\.1:{port}, \d+ kB a frame, \d+ kbit/s at 20 frames/s "
        r"\(.*split pool1_pool, fps 20, loop yes, .*name door, config /dev/null\)",
        said[0],
    )
    assert said[1] == f"looking for 127.0.0.1:{port}"
    assert said[2].startswith(f"warning: cannot reach 127.0.0.1:{port}: nothing listens there; start it there: ")
    assert said[3] == f"connected to 127.0.0.1:{port}"
    totals = [line.partition(":")[0] for line in said[-6:-1]]
    assert [one for one in totals if one != "packets"][-4:] == [
        *("frames", "frames' datagrams", "datagrams sent", "bytes sent")
    ]
    assert said[-1].startswith("datagrams received: ")


def test_an_edge_that_has_sent_a_few_photographs_leaves_their_answers(photographs: Path) -> None:
    port = free_port()
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}"):
        where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}"]
        with on_terminal("gradfec-edge", *where) as edge:
            assert edge.wait_until_it_ends() == 0
            answers = [line for line in edge.lines() if re.fullmatch(r"\w+\.png: .* [01]\.\d\d", line)]
        with on_terminal("gradfec-edge", *where, "--results", "-") as edge:
            assert edge.wait_until_it_ends() == 0
            assert not any(re.fullmatch(r"\w+\.png: .* [01]\.\d\d", line) for line in edge.lines())
    assert len(answers) == 6


def test_an_edge_whose_link_decides_shows_why_until_the_cloud_is_gone(photographs: Path) -> None:
    port = free_port()
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--loop", "--fps", "20", "--protect", "auto"]
    why = r"why: \w+; loss \d+\.\d %.* datagrams of which \d+ parity"
    with on_terminal("gradfec-edge", *where, "--name", "door", PATIENCE_S="600") as edge:
        with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}"):
            edge.wait_until(lambda: re.search(why, edge.visible()) is not None)
        edge.wait_until(lambda: re.search(r"door .* looking ", edge.visible()) is not None)
        edge.wait_until(lambda: re.search(why, edge.visible()) is None)
        leaves_the_terminal_clean(edge, "gradfec-edge")


def test_a_cloud_shows_a_line_for_each_edge(photographs: Path) -> None:
    port = free_port()
    with on_terminal("gradfec-cloud", "--listen", f"127.0.0.1:{port}") as cloud:
        cloud.wait_until(lambda: "no edge" in cloud.visible())
        where = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}"]
        with stubbed("gradfec-edge", *where, "--name", "\x1b[31m[red]", "--loop", "--fps", "20"):
            row = r"\[31m\[red\] +127\.0\.0\.1:\d+ +\d+\.\d +\d+ +\d+\.\d % +\d+ +\d+ ms +connected"
            cloud.wait_until(lambda: re.search(row, cloud.visible()) is not None)
        cloud.wait_until(lambda: "gone (bye)" in cloud.visible())
        has_cloud(Endpoint("127.0.0.1", port), HandshakeKey(read_key(own_key())), named_cut("pool1_pool"))
        cloud.wait_until(lambda: "'gradfec doctor' gone (bye)" in cloud.visible())  # in the log, and not in the table
        assert " gradfec doctor " not in cloud.visible()
        lines = leaves_the_terminal_clean(cloud, "gradfec-cloud")
    assert "gradfec-cloud: edge '\\x1b[31m[red]' connected" in lines
    assert "gradfec-cloud: edge '\\x1b[31m[red]' gone (bye)" in lines


@pytest.mark.parametrize(("options", "settings"), [(["--log-format", "json"], {}), ([], {"TERM": "dumb"})])
def test_objects_and_a_terminal_that_cannot_redraw_get_plain_lines(
    options: list[str], settings: dict[str, str]
) -> None:
    with on_terminal("gradfec-cloud", "--listen", f"127.0.0.1:{free_port()}", *options, **settings) as cloud:
        cloud.wait_until(lambda: "listening on" in cloud.visible())
        cloud.type(b"\x03")
        assert cloud.wait_until_it_ends() == 0
        assert not cloud.hid_the_cursor
        assert " median " not in "".join(cloud.lines())
