"""Real daemons with toy networks and keys: which edges connect, what the others are told, and what stays secret."""

from __future__ import annotations

import base64
import json
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_cli.daemons import Daemon, free_port
from gradfec_common.keys import INSECURE_WARNING, Key
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host.key_files import read_key, write_key
from gradfec_host.weights import cache_path

from .endings import SOON_S, ended, is_one_clear_line, untimed, wait_for
from .stubbed import stubbed

NORTH, SOUTH = (Key(bytes(range(n, n + 32))) for n in (100, 150))


class Records:
    """What an edge or a cloud records, as it comes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for_more(self) -> None:
        """Wait until three more frames have been answered."""
        before = self._answered()
        wait_for(lambda: self._answered() >= before + 3)

    def _answered(self) -> int:
        return sum(record["outcome"] != "timeout" for record in self.read())


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory with the keys of two edges."""
    for name, key in (("north", NORTH), ("south", SOUTH)):
        write_key(tmp_path / "keys" / name, key)
    return tmp_path / "keys"


@contextmanager
def cloud(*options: object, **settings: object) -> Iterator[tuple[Daemon, int]]:
    """Run a cloud; yield it with its port."""
    port = free_port()
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--json", *options, **settings) as running:
        yield running, port


@contextmanager
def edge(photographs: Path, port: int, *options: object, **settings: object) -> Iterator[Daemon]:
    """Run an edge that sends each photograph once."""
    where = ("--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--json")
    with stubbed("gradfec-edge", *where, *options, **settings) as running:
        yield running


@contextmanager
def endless(photographs: Path, port: int, results: Path, *options: object) -> Iterator[tuple[Daemon, Records]]:
    """Run an edge that goes on until it is stopped, once its first frames are answered."""
    more = ("--loop", "--fps", 20, "--in-flight", 2, "--timeout-ms", 2000, "--results", results, *options)
    with edge(photographs, port, *more) as running:
        records = Records(results)
        records.wait_for_more()
        yield running, records


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SOON_S) as answer:
        text: str = answer.read().decode()
        return text


# --- a key on both sides, or not ---


def test_on_one_machine_both_daemons_find_the_key_that_keygen_has_made_without_an_option(
    photographs: Path, tmp_path: Path
) -> None:
    home = {"GRADFEC_KEY_FILE": None, "GRADFEC_HOME": tmp_path}
    made = CliRunner(env={**home, "GRADFEC_HOME": str(tmp_path)}).invoke(main, ["keygen"])
    assert made.exit_code == 0, made.output
    weights = ("--weights", cache_path(RESNET50))
    with cloud(*weights, **home) as (_, port), edge(photographs, port, *weights, **home) as running:
        code, _, output = ended(running)
    assert (code, json.loads(output[-1])["frames"]) == (0, {"complete": 6, "skipped": 0})


@pytest.mark.parametrize("name", ["gradfec-edge", "gradfec-cloud"])
def test_without_a_key_a_daemon_says_how_to_make_one_and_ends(name: str, photographs: Path, tmp_path: Path) -> None:
    where = {
        "gradfec-edge": ("--camera", photographs, "--cloud", "127.0.0.1:9"),
        "gradfec-cloud": ("--listen", f"127.0.0.1:{free_port()}"),
    }
    settings: dict[str, object] = {"GRADFEC_KEY_FILE": None, "GRADFEC_HOME": tmp_path}
    with stubbed(name, *where[name], ready=None, **settings) as running:
        code, said, _ = ended(running)
    assert code == 2
    assert is_one_clear_line(said, f"there is no key at {tmp_path / 'key'}: make one with `gradfec keygen`"), said


def test_an_edge_with_another_key_than_the_clouds_gets_no_reply_and_says_what_to_check(
    photographs: Path, keys: Path
) -> None:
    with (
        cloud("--key-file", keys / "north") as (running, port),
        edge(photographs, port, "--key-file", keys / "south", "--wait", "0.2") as stranger,
    ):
        code, said, _ = ended(stranger)
        fates = running.totals()["datagrams_received"]
    assert code == 1
    words = (
        f"no answer from 127.0.0.1:{port} for 0.2 s: check that gradfec-cloud runs there, of the same version as this "
        "edge, that it has this edge's key "
    )
    assert is_one_clear_line(said, f"{words}{SOUTH.id.hex()} (senders without the key get no reply)"), said
    assert [*fates] == ["unknown_key"]
    (warning,) = (line for line in running.said if "warning" in line)
    assert f" has the key {SOUTH.id.hex()}, which this cloud does not have, and gets no reply: " in warning


def test_if_only_one_side_has_a_key_they_do_not_connect(photographs: Path) -> None:
    for of_cloud, of_edge, words in (
        (["--insecure"], [], "that it has this edge's key"),
        ([], ["--insecure"], "that it runs with --insecure, too"),
    ):
        with cloud(*of_cloud) as (running, port), edge(photographs, port, *of_edge, "--wait", "0.2") as stranger:
            code, said, _ = ended(stranger)
            assert code == 1
            assert is_one_clear_line(said, words), said
            assert [*running.totals()["datagrams_received"]] == ["unknown_key"]


def test_a_key_file_that_others_may_read_is_refused_by_both_daemons_with_what_to_do(
    photographs: Path, keys: Path
) -> None:
    (keys / "north").chmod(0o644)
    where = {
        "gradfec-edge": ("--camera", photographs, "--cloud", "127.0.0.1:9"),
        "gradfec-cloud": ("--listen", f"127.0.0.1:{free_port()}"),
    }
    for name, options in where.items():
        with stubbed(name, *options, "--key-file", keys / "north", ready=None) as running:
            code, said, _ = ended(running)
        assert code == 1
        assert is_one_clear_line(said, f"run `chmod 600 {keys / 'north'}`"), said


# --- without protection, for who wants that ---


def test_with_insecure_on_both_sides_they_connect_and_say_so_everywhere(photographs: Path, tmp_path: Path) -> None:
    metrics, results = free_port(), tmp_path / "cloud.jsonl"
    nothing: dict[str, object] = {"GRADFEC_KEY_FILE": tmp_path / "no key"}
    with cloud("--insecure", "--metrics", metrics, "--results", results, **nothing) as (running, port):
        with edge(photographs, port, "--insecure", "--results", "-", **nothing) as sender:
            code, said, output = ended(sender)
        text = scraped(metrics)
        running.stop()
    *records, totals = map(json.loads, output)
    assert (code, totals["frames"]) == (0, {"complete": 6, "skipped": 0})
    assert f"warning: {INSECURE_WARNING}" in said
    assert f"gradfec-cloud: warning: {INSECURE_WARNING}" in map(untimed, running.said)
    assert {record["insecure"] for record in [*records, *Records(results).read()]} == {True}
    assert "gradfec_cloud_insecure 1.0" in text


def test_under_a_key_nothing_is_marked(photographs: Path, tmp_path: Path) -> None:
    metrics, results = free_port(), tmp_path / "cloud.jsonl"
    with cloud("--metrics", metrics, "--results", results) as (running, port):
        with edge(photographs, port, "--results", "-") as sender:
            _, said, output = ended(sender)
        text = scraped(metrics)
        running.stop()
    records = [*map(json.loads, output[:-1]), *Records(results).read()]
    assert len(records) == 12
    assert not any("insecure" in record for record in records)
    assert "insecure" not in said + " ".join(running.said)
    assert "gradfec_cloud_insecure 0.0" in text


# --- a key for each edge ---


def test_the_names_of_key_files_are_the_edges_names_in_the_clouds_records(
    photographs: Path, keys: Path, tmp_path: Path
) -> None:
    results = tmp_path / "cloud.jsonl"
    with cloud("--keys", keys, "--results", results) as (running, port), ExitStack() as stack:
        both = [
            stack.enter_context(edge(photographs, port, "--key-file", keys / name, "--name", "liar"))
            for name in ("north", "south")
        ]
        assert [ended(one)[0] for one in both] == [0, 0]
        running.stop()
    names = [record["edge"] for record in Records(results).read()]
    assert sorted(names) == 6 * ["north"] + 6 * ["south"]
    assert "gradfec-cloud: edge 'south' connected" in map(untimed, running.said)


def test_a_hang_up_signal_ends_the_session_of_a_removed_key_and_lets_an_added_one_in(
    photographs: Path, keys: Path, tmp_path: Path
) -> None:
    own = {name: write_copy(keys / name, tmp_path / name) for name in ("north", "south")}
    with (
        cloud("--keys", keys) as (running, port),
        endless(photographs, port, tmp_path / "north.jsonl", "--key-file", own["north"]) as (_, north),
        endless(photographs, port, tmp_path / "south.jsonl", "--key-file", own["south"]) as (sender, south),
    ):
        (keys / "south").unlink()
        running.process.send_signal(signal.SIGHUP)
        running.wait_until_it_says("edge 'south' gone (key removed)", SOON_S)
        running.wait_until_it_says("read again: 1 key", SOON_S)
        sender.wait_until_it_says("is leaving; looking for it", SOON_S)
        north.wait_for_more()
        write_copy(own["south"], keys / "south")
        running.process.send_signal(signal.SIGHUP)
        running.wait_until_it_says("read again: 2 keys", SOON_S)
        south.wait_for_more()
        north.wait_for_more()
        said = [*running.said]
    assert [line.split("edge ")[1] for line in said if "connected" in line or "gone" in line] == [
        *("'north' connected", "'south' connected", "'south' gone (key removed)", "'south' connected")
    ]


def test_a_directory_that_is_broken_when_it_is_read_again_changes_nothing_and_is_said_to_be(
    photographs: Path, keys: Path, tmp_path: Path
) -> None:
    own = write_copy(keys / "north", tmp_path / "north")
    with (
        cloud("--keys", keys) as (running, port),
        endless(photographs, port, tmp_path / "north.jsonl", "--key-file", own) as (_, records),
    ):
        (keys / "north").unlink()
        (keys / "south").chmod(0o644)
        running.process.send_signal(signal.SIGHUP)
        running.wait_until_it_says("the keys stay as they were", SOON_S)
        records.wait_for_more()
        with edge(photographs, port, "--key-file", own) as second:
            assert ended(second)[0] == 0
        said = "\n".join(running.said)
    assert f"error: users other than its owner have access to the key {keys / 'south'}: run `chmod 600 " in said
    assert "gone (key removed)" not in said
    assert "Traceback" not in said


def write_copy(source: Path, target: Path) -> Path:
    write_key(target, read_key(source))
    return target


# --- secrets ---


def test_no_key_is_ever_said_recorded_measured_or_shown_in_the_list_of_processes(
    photographs: Path, keys: Path, tmp_path: Path
) -> None:
    metrics, results = free_port(), tmp_path / "cloud.jsonl"
    with cloud("--keys", keys, "--metrics", metrics, "--results", results) as (running, port):
        where = ("--key-file", keys / "north", "--name", "north")
        with endless(photographs, port, tmp_path / "edge.jsonl", *where) as (sender, _):
            seen = [scraped(metrics), *map(command_line, (running, sender))]
            (keys / "north").write_text(f"{NORTH.token}x\n")
            running.process.send_signal(signal.SIGHUP)
            running.wait_until_it_says("the keys stay as they were", SOON_S)
            seen += sender.stop()
        seen += running.stop()
        seen += [*sender.said, *running.said, results.read_text(), (tmp_path / "edge.jsonl").read_text()]
    text = "\n".join(seen).lower()
    assert str(keys / "north").lower() in text  # there was something to see
    for key in (NORTH, SOUTH):
        for secret in forms_of(key):
            assert secret not in text
    assert "traceback" not in text


def command_line(running: Daemon) -> str:
    return Path(f"/proc/{running.process.pid}/cmdline").read_text().replace("\0", " ")


def forms_of(key: Key) -> list[str]:
    """Return what a key may look like, or its first half, which would give it away as well."""
    half = key.secret[:15]  # whole groups of both alphabets
    texts = (half.hex(), repr(half)[2:-1], base64.b64encode(half).decode(), base64.b32encode(half).decode(), key.token)
    return [text.lower() for text in (*texts, base64.urlsafe_b64encode(half).decode())]
