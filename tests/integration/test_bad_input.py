"""Bad input gets one clear line and an exit code: 2 for a wrong option, 1 for what is wrong outside the program."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

from gradfec_common import wire
from gradfec_common.network import DEFAULT_SPLIT, split_point
from gradfec_common.weights import ensure_weights, write_slice
from gradfec_lab.daemons import Daemon, free_port

from .stubbed import stubbed

MODULES = {
    "gradfec": "gradfec_lab.cli",
    "gradfec-edge": "gradfec_edge.cli",
    "gradfec-cloud": "gradfec_cloud.cli",
    "gradfec-netem": "gradfec_lab.netem",
}
LONG_LABEL = 70 * "a"
SOON_S = 60.0  # a safety net: what should happen happens within milliseconds


class Case(NamedTuple):
    """A command line, what it exits with, and words that its error holds; {names} are of `places`."""

    command: str
    code: int
    words: str


EDGE = "gradfec-edge --camera {photo} --cloud 127.0.0.1:9"
TRAIN = "gradfec train-proxy --images {photos} --out {empty}/new.npz"
CLOUD = "gradfec-cloud --listen 127.0.0.1:{free}"
WRONG_OPTIONS = (
    Case("gradfec-edge --cloud localhost:9000", 2, "missing option '--camera'"),
    Case("gradfec-edge --camera {photo}", 2, "missing option '--cloud'"),
    Case(f"{EDGE} --frobnicate", 2, "no such option"),
    Case(f"{EDGE} stray", 2, "unexpected extra argument"),
    Case(f"{EDGE} --camera", 2, "requires an argument"),
    Case(f"{EDGE} --camera {{missing}}", 2, "does not exist"),
    Case(f"{EDGE} --camera {{empty}}", 2, "has no images"),
    Case(f"{EDGE} --camera rtsp://", 2, "not the url of a stream"),
    Case(f"{EDGE} --cloud localhost", 2, "'localhost' names no port"),
    Case(f"{EDGE} --cloud :9000", 2, "':9000' names no host"),
    Case(f"{EDGE} --cloud localhost:", 2, "'' in 'localhost:' is not a port"),
    Case(f"{EDGE} --cloud localhost:0", 2, "from 1 to 65535"),
    Case(f"{EDGE} --cloud localhost:65536", 2, "from 1 to 65535"),
    Case(f"{EDGE} --cloud localhost:http", 2, "'http' in 'localhost:http' is not a port"),
    Case(f"{EDGE} --cloud localhost:-1", 2, "is not a port"),
    Case(f"{EDGE} --protect FEC_50", 2, "no protection scheme"),
    Case(f"{EDGE} --protect FEC_50_60", 2, "a + b = 110, not 100"),
    Case(f"{EDGE} --protect FEC_100_0", 2, "leaves nothing to protect"),
    Case(f"{EDGE} --fec turbo", 2, "'turbo' is not one of 'zfec', 'leopard'"),
    Case(f"{EDGE} --fec leopard --split conv5_block3_out", 2, "make symbols of 51 bytes: use --fec zfec"),
    Case(f"{EDGE} --importance telepathy", 2, "no importance estimator is called 'telepathy': use one of proxy, "),
    Case(f"{EDGE} --importance {{text_npz}}", 2, "is no estimator that gradfec train-proxy has made"),
    Case(f"{EDGE} --importance {{slice}}", 2, "is no estimator that gradfec train-proxy has made"),
    Case(
        f"{EDGE} --importance proxy --rows 14", 2, "proxy ranks packets of 7 rows of conv2_block1_add, not of 14 rows"
    ),
    Case(f"{EDGE} --importance proxy --rows 14", 2, "train-proxy --split conv2_block1_add --rows 14, or use"),
    Case(f"{EDGE} --importance static --split pool1_pool", 2, "not of 7 rows of pool1_pool: train one with gradfec"),
    Case(f"{EDGE} --split conv2_block1_ad", 2, "did you mean conv2_block1_add"),
    Case(f"{EDGE} --split conv2_block1_1_conv", 2, "nearest split points are pool1_pool and conv2_block1_add"),
    Case(f"{EDGE} --split predictions", 2, "last layer"),
    Case(f"{EDGE} --rows 5", 2, "do not divide the 56 rows"),
    Case(f"{EDGE} --rows 0", 2, "not in the range"),
    Case(f"{EDGE} --rows 28", 2, "more than the 1154 that fit a datagram"),
    Case(f"{EDGE} --fps -1", 2, "not in the range"),
    Case(f"{EDGE} --fps nan", 2, "not a frame rate"),
    Case(f"{EDGE} --fps five", 2, "not a valid float"),
    Case(f"{EDGE} --rate 0", 2, "not in the range"),
    Case(f"{EDGE} --rate nan", 2, "--rate nan is not a rate"),
    Case(f"{EDGE} --rate inf", 2, "--rate inf is not a rate"),
    Case(f"{EDGE} --in-flight 0", 2, "not in the range"),
    Case(f"{EDGE} --timeout-ms 0", 2, "not in the range"),
    Case(f"{EDGE} --name {300 * 'n'}", 2, "use a shorter --name"),
    Case("gradfec-cloud", 2, "missing option '--listen'"),
    Case("gradfec-cloud --listen everywhere", 2, "is not a port"),
    Case(f"{CLOUD} --split conv9", 2, "no layer 'conv9'"),
    Case(f"{CLOUD} --split conv2_block1_1_conv", 2, "nearest split points"),
    Case(f"{CLOUD} --deadline-ms 0", 2, "not in the range"),
    Case(f"{CLOUD} --fill median", 2, "'median' is not one of"),
    Case(f"{CLOUD} --split pool1_pool --fill mean", 2, "no channel means for the split 'pool1_pool'"),
    Case("gradfec frobnicate", 2, "no such command 'frobnicate'"),
    Case("gradfec demo --images {missing}", 2, "is no folder"),
    Case("gradfec demo --images {empty}", 2, "has no images"),
    Case("gradfec demo --loss 140%", 2, "not a share of the datagrams"),
    Case("gradfec demo --burst 0.5", 2, "not a number of datagrams, at least 1"),
    Case("gradfec demo --loss 90% --burst 2", 2, "is infeasible"),
    Case("gradfec demo --protect FEC_60_60", 2, "a + b = 120, not 100"),
    Case("gradfec demo --fec turbo", 2, "'turbo' is not one of"),
    Case("gradfec sweep daemons --images {photos} --fec turbo", 2, "'turbo' is not one of"),
    Case("gradfec sweep daemons", 2, "missing option '--images'"),
    Case("gradfec sweep daemons --images {missing}", 2, "is no folder"),
    Case("gradfec sweep daemons --images {empty}", 2, "has no images"),
    Case("gradfec sweep daemons --images {photos} --loss 10%,most", 2, "'most' is not a share"),
    Case("gradfec sweep daemons --images {photos} --protect none,FEC_1", 2, "no protection scheme"),
    Case("gradfec sweep daemons --images {photos} --importance luck", 2, "'luck': use one of proxy, "),
    Case("gradfec sweep daemons --images {photos} --labels {photo}", 2, "no list of labels"),
    Case("gradfec sweep daemons --images {photos} --labels {text}", 2, "no list of labels"),
    Case("gradfec train-proxy --out new.npz", 2, "missing option '--images'"),
    Case("gradfec train-proxy --images {photos}", 2, "missing option '--out'"),
    Case(f"{TRAIN} --images {{missing}}", 2, "is no folder: --images takes a folder of images"),
    Case(f"{TRAIN} --images {{photo}}", 2, "is no folder"),
    Case(f"{TRAIN} --images {{empty}}", 2, "has no images"),
    Case(f"{TRAIN} --out new.h5", 2, "--out new.h5 is no .npz file"),
    Case(f"{TRAIN} --out {{empty}}", 2, "is a directory"),
    Case(f"{TRAIN} --recipe secret", 2, "'secret' is not one of"),
    Case(f"{TRAIN} --means means.npz", 2, "--means goes with --recipe averages, not with best"),
    Case(f"{TRAIN} --limit 39", 2, "not in the range x>=40"),
    Case(f"{TRAIN} --epochs 0", 2, "not in the range"),
    Case(f"{TRAIN} --rows 5", 2, "do not divide the 56 rows"),
    Case(f"{TRAIN} --split conv9", 2, "no layer 'conv9'"),
    Case(f"{TRAIN} --score magic", 2, "'magic' is not one of"),
    Case("gradfec-netem --listen 9001", 2, "missing option '--to'"),
    Case("gradfec-netem --listen {free} --to localhost:9 --loss most", 2, "not a share"),
    Case("gradfec weights --unverified", 2, "goes with --from"),
)
WRONG_WORLD = (
    Case(f"{EDGE} --camera {{text}}", 1, "not an image that can be read"),
    Case(f"{EDGE} --camera {{blank}}", 1, "is empty"),
    Case(f"{EDGE} --camera {{no_images}}", 1, "none of the 2 images"),
    Case(f"{EDGE} --cloud nobody.invalid:9000", 1, "cannot reach nobody.invalid:9000"),
    Case(f"{EDGE} --cloud {LONG_LABEL}:9000", 1, "check the host name in --cloud"),
    Case(f"{EDGE} --results {{missing}}/out.jsonl", 1, "there is no folder"),
    Case(f"{EDGE} --results {{empty}}", 1, "is a directory"),
    Case(f"{EDGE} --weights {{missing}}", 1, "no weights at"),
    Case(f"{EDGE} --weights {{text}}", 1, "cannot read"),
    Case(f"{EDGE} --weights {{cut_short}}", 1, "cannot read"),
    Case(f"{EDGE} --importance {{missing}}.npz", 1, "make one with gradfec train-proxy --out"),
    Case("gradfec-cloud --listen 127.0.0.1:{udp}", 1, "is in use already"),
    Case("gradfec-cloud --listen 192.0.2.1:9000", 1, "not of this machine"),
    Case("gradfec-cloud --listen nobody.invalid:9000", 1, "cannot listen on nobody.invalid:9000"),
    Case(f"gradfec-cloud --listen {LONG_LABEL}:9000", 1, "use an address of this machine"),
    Case(f"{CLOUD} --metrics {{tcp}}", 1, "cannot serve metrics on 127.0.0.1:"),
    Case(f"{CLOUD} --metrics {LONG_LABEL}:9100", 1, "choose another --metrics"),
    Case(f"{CLOUD} --results {{missing}}/out.jsonl", 1, "there is no folder"),
    Case(f"{CLOUD} --weights {{missing}}", 1, "no weights at"),
    Case(f"{CLOUD} --weights {{cut_short}}", 1, "cannot read"),
    Case("gradfec sweep daemons --images {photos} --labels {missing}", 1, "cannot read labels"),
    Case(f"{TRAIN} --weights {{missing}}", 1, "no weights at"),
    Case(f"{TRAIN} --weights {{text}}", 1, "cannot read"),
    Case("gradfec-netem --listen {udp} --to localhost:9", 1, "is in use"),
)
AS_PROCESSES = (
    Case(f"{EDGE} --fps -1", 2, "not in the range"),
    Case(f"{EDGE} --protect FEC_50_60", 2, "a + b = 110, not 100"),
    Case(f"{EDGE} --camera {{text}}", 1, "not an image that can be read"),
    Case("gradfec-cloud --listen 127.0.0.1:{udp}", 1, "is in use already"),
    Case("gradfec frobnicate", 2, "no such command 'frobnicate'"),
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Iterator[dict[str, object]]:
    """What the command lines name: good and bad files, and ports that are taken and free."""
    folder = tmp_path_factory.mktemp("bad input")
    for name in ("empty", "no_images"):
        (folder / name).mkdir()
    (folder / "no_images" / "a.png").write_text("not an image")
    (folder / "no_images" / "b.png").touch()
    text, blank, cut_short = folder / "text.jpg", folder / "blank.jpg", folder / "cut_short.npz"
    text.write_text("one\ntwo\n")
    blank.touch()
    slice_bytes = edge_slice(folder / "slice.npz").read_bytes()
    cut_short.write_bytes(slice_bytes[: len(slice_bytes) // 2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind(("", 0))
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        yield {
            "photos": photographs,
            "photo": photographs / "chelsea.png",
            "missing": folder / "missing",
            "empty": folder / "empty",
            "no_images": folder / "no_images",
            "text": text,
            "blank": blank,
            "cut_short": cut_short,
            "slice": folder / "slice.npz",
            "text_npz": shutil.copy(text, folder / "text.npz"),
            "udp": udp.getsockname()[1],
            "tcp": tcp.getsockname()[1],
            "free": free_port(),
        }


def edge_slice(path: Path) -> Path:
    write_slice(ensure_weights(), DEFAULT_SPLIT, path)
    return path


def words_of(command: str, places: dict[str, object]) -> tuple[str, list[str]]:
    name, *arguments = command.split()
    return name, [argument.format(**places) for argument in arguments]


def is_one_clear_line(stderr: str, words: str) -> bool:
    """Whether exactly one line is an error, it is the last, and it has the words in it."""
    lines = [line.lower() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return errors == lines[-1:] and words.lower() in errors[0] and "Traceback" not in stderr


def named(case: Case) -> str:
    return f"{case.command.split()[0]}: {case.words}"


@pytest.mark.parametrize("case", WRONG_OPTIONS + WRONG_WORLD, ids=named)
def test_bad_input_is_one_clear_line_and_an_exit_code_before_tensorflow_is_imported(
    case: Case, places: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorflow", "keras", "gradfec_edge.frontend", "gradfec_cloud.backend"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it is an error
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    program, arguments = words_of(case.command, places)
    ended = CliRunner().invoke(import_module(MODULES[program]).main, arguments, prog_name=program)
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == case.code
    assert is_one_clear_line(ended.stderr, case.words), ended.stderr
    assert not ended.stdout


def resolve(host: str, *rest: Any, getaddrinfo: Any = socket.getaddrinfo, **options: Any) -> Any:
    """Resolve a name, but answer for the name servers, which may take their time, that there is no such host."""
    if host == "nobody.invalid":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return getaddrinfo(host, *rest, **options)


@pytest.mark.parametrize("case", AS_PROCESSES, ids=named)
def test_the_installed_commands_exit_as_their_functions_do(case: Case, places: dict[str, object]) -> None:
    name, arguments = words_of(case.command, places)
    program = shutil.which(name, path=str(Path(sys.executable).parent))
    assert program
    ended = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=SOON_S, check=False)
    assert ended.returncode == case.code
    assert is_one_clear_line(ended.stderr, case.words), ended.stderr


# --- weights, whose arrays are looked at when the network is built ---


@pytest.mark.daemons
def test_a_cloud_given_an_edges_slice_of_the_weights_says_what_it_is(places: dict[str, object]) -> None:
    program, arguments = words_of(f"{CLOUD} --weights {{slice}}", places)
    ended = CliRunner().invoke(import_module(MODULES[program]).main, arguments)
    assert ended.exit_code == 1
    assert is_one_clear_line(ended.stderr, "it is a front-end's slice; give the whole weights"), ended.stderr


@pytest.mark.daemons
def test_a_flipped_bit_in_the_weights_is_found_before_a_frame_is_sent(
    places: dict[str, object], tmp_path: Path
) -> None:
    damaged = edge_slice(tmp_path / "damaged.npz")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    program, arguments = words_of(f"{EDGE} --weights {damaged}", places)
    ended = CliRunner().invoke(import_module(MODULES[program]).main, arguments)
    assert ended.exit_code == 1
    assert is_one_clear_line(ended.stderr, str(damaged).lower()), ended.stderr


# --- peers ---

Reply = Callable[[wire.Hello], bytes]


@contextmanager
def fake_cloud(reply: Reply, got_symbol: threading.Event | None = None) -> Iterator[int]:
    """Answer each hello as `reply` says, and nothing else; yield the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (datagram := server.recvfrom(2048))[0] != b"stop":
                opened = wire.read_control(np.frombuffer(datagram[0], np.uint8))
                if not isinstance(opened, wire.Drop) and isinstance(opened[1], wire.Hello):
                    server.sendto(reply(opened[1]), datagram[1])
                elif got_symbol and datagram[0][2] == wire.Kind.SYMBOL:
                    got_symbol.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.sendto(b"stop", server.getsockname())
            thread.join()


def in_version(version: int, datagram: bytes) -> bytes:
    """Return a datagram as another version of the protocol would write it."""
    body = datagram[:1] + bytes([version]) + datagram[2:-4]
    return body + zlib.crc32(body).to_bytes(4, "big")


def refusal(reason: str, detail: str, version: int = wire.VERSION) -> Reply:
    return lambda hello: in_version(version, wire.control_datagram(0, wire.Refuse(hello.nonce, reason, detail)))


def ended(daemon: Daemon) -> tuple[int, str, list[str]]:
    """Wait for a daemon to end by itself: its exit code, what it said, its standard output."""
    output = [*daemon.lines()]
    code = daemon.process.wait(SOON_S)
    daemon.stop()
    return code, "\n".join(daemon.said), output


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refusal("version", "the edge speaks 1, this cloud 2", version=2), "the edge speaks 1, this cloud 2"),
        (refusal("rows", "not with\nerror: these\x1b[2J rows"), "not with error: these [2j rows"),
    ],
    ids=["of another version of the protocol", "that would play with the terminal"],
)
def test_a_refusal_ends_the_edge_with_the_clouds_words(reply: Reply, words: str, photographs: Path) -> None:
    with (
        fake_cloud(reply) as port,
        stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}") as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 1
    assert is_one_clear_line(said, f"127.0.0.1:{port} refuses this edge: {words}"), said


def test_a_cloud_that_is_full_is_asked_again_and_said_so_once(photographs: Path) -> None:
    options = ["--camera", photographs, "--json"]
    with (
        fake_cloud(refusal("full", "the cloud serves 256 edges already")) as port,
        stubbed("gradfec-edge", *options, "--cloud", f"127.0.0.1:{port}", PATIENCE_S=1.0) as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 1
    assert said.count("the cloud serves 256 edges already; trying again") == 1
    assert is_one_clear_line(said, "takes no edge now: the cloud serves 256 edges already"), said


def test_a_folder_and_nobody_listening_ends_with_advice_and_no_record(photographs: Path, tmp_path: Path) -> None:
    results = tmp_path / "out.jsonl"
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{free_port()}"]
    with stubbed("gradfec-edge", *where, "--results", results, PATIENCE_S=0.3) as edge:
        code, said, _ = ended(edge)
    assert code == 1
    assert is_one_clear_line(said, "check that gradfec-cloud runs there"), said
    assert results.read_text() == ""


def test_an_edge_with_another_split_is_told_which_one_to_use(photographs: Path) -> None:
    port = free_port()
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--split", "conv3_block1_add"),
        stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}") as edge,
    ):
        code, said, _ = ended(edge)
    assert code == 1
    assert is_one_clear_line(said, "use --split conv3_block1_add on the edge"), said


def test_a_cloud_refuses_a_hello_of_version_2_and_counts_any_other_bytes(photographs: Path) -> None:
    rng = random.Random(5)
    port = free_port()
    hello = wire.Hello(7, split_point(DEFAULT_SPLIT).id, 7, "edge of tomorrow")
    symbol = bytearray(840)
    symbol[:3] = wire.MAGIC, wire.VERSION, wire.Kind.SYMBOL
    junk = [b"", *(rng.randbytes(rng.randrange(1, 2000)) for _ in range(200))]
    junk += [in_version(wire.VERSION, bytes(symbol)), wire.control_datagram(9, wire.Bye())]
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--json") as cloud,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        stranger.connect(("127.0.0.1", port))
        stranger.settimeout(SOON_S)
        for datagram in junk:
            stranger.send(datagram)
        stranger.send(in_version(2, wire.control_datagram(0, hello)))
        answer = wire.read_control(np.frombuffer(stranger.recv(2048), np.uint8))
        with stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}", "--json") as edge:
            code, _, output = ended(edge)
        totals = cloud.totals()["datagrams_received"]
    assert not isinstance(answer, wire.Drop)
    assert isinstance(answer[1], wire.Refuse)
    assert (answer[1].nonce, answer[1].reason) == (7, "version")
    assert "update the older" in answer[1].detail
    bad = {fate: n for fate, n in totals.items() if fate not in ("collected", "surplus", "hello", "ack", "bye")}
    assert sum(bad.values()) == len(junk) + 1
    assert bad["unknown_version"] == 1
    assert bad["unknown_session"] == 2
    assert (code, json.loads(output[-1])["frames"]) == (0, {"complete": 6, "skipped": 0})


# --- a full disk ---


needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")


@needs_dev_full
def test_a_full_disk_ends_the_edge_and_the_cloud_serves_the_next(photographs: Path, tmp_path: Path) -> None:
    port, results = free_port(), tmp_path / "cloud.jsonl"
    arguments = ["--camera", photographs, "--cloud", f"127.0.0.1:{port}"]
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}", "--results", results, "--json") as cloud:
        with stubbed("gradfec-edge", *arguments, "--results", "/dev/full") as edge:
            code, said, _ = ended(edge)
        with stubbed("gradfec-edge", *arguments, "--name", "next") as edge:
            assert ended(edge)[0] == 0
        cloud.totals()
    assert code == 1
    assert is_one_clear_line(said, "no space left on device; 0 results were recorded before it; free space"), said
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert [record["tensor"] for record in records if record["edge"] == "next"] == [*range(6)]


@needs_dev_full
def test_a_full_disk_ends_the_cloud_and_its_edge_loses_no_frame(photographs: Path, tmp_path: Path) -> None:
    port, results = free_port(), tmp_path / "edge.jsonl"
    listen = ["gradfec-cloud", "--listen", f"127.0.0.1:{port}"]
    options = ["--in-flight", "1", "--results", results]
    with (
        stubbed(*listen, "--results", "/dev/full") as cloud,
        stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}", *options) as edge,
    ):
        code, said, _ = ended(cloud)
        edge.wait_until_it_says("is leaving; looking for it")
        with stubbed(*listen):
            assert ended(edge)[0] == 0
    assert code == 1
    assert is_one_clear_line(said, "cannot write results to /dev/full: no space left on device"), said
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted(record["frame"] for record in records) == [*range(6)]
    assert records[0]["outcome"] == records[-1]["outcome"] == "complete"


# --- being asked to stop ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_asked_to_stop_while_nobody_is_there_both_daemons_end_well_with_their_totals(
    number: signal.Signals, photographs: Path
) -> None:
    where = ["--camera", photographs, "--cloud", f"127.0.0.1:{free_port()}"]
    with (
        stubbed("gradfec-edge", *where, ready="looking for") as edge,
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{free_port()}") as cloud,
    ):
        for daemon, words in ((edge, "frames: skipped 0"), (cloud, "tensors: none")):
            daemon.process.send_signal(number)
            code, said, output = ended(daemon)
            assert (code, output) == (0, [])
            assert f"{daemon.name}: {words}" in said
            assert "error" not in said
            assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_edge_asked_to_stop_records_every_frame_that_it_sent(
    number: signal.Signals, photographs: Path, tmp_path: Path
) -> None:
    port, results = free_port(), tmp_path / "out.jsonl"
    with stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{port}"):
        options = ["--loop", "--results", results, "--json", "--in-flight", "8"]
        with stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}", *options) as edge:
            wait_for(lambda: results.exists() and results.read_text().count("\n") >= 8)
            edge.process.send_signal(number)
            code, said, output = ended(edge)
    assert code == 0
    assert "Traceback" not in said
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted(record["tensor"] for record in records) == [*range(len(records))]
    totals = json.loads(output[-1])
    assert totals["frames"]["complete"] == len(records)
    assert totals["packets"]["sent"] == totals["datagrams_sent"]["symbol"]


def test_asked_twice_an_edge_does_not_wait_for_answers(photographs: Path) -> None:
    def welcome(hello: wire.Hello) -> bytes:
        return wire.control_datagram(1, wire.Welcome(hello.nonce, 250))

    options = ["--timeout-ms", "600000", "--results", "-", "--in-flight", "1"]
    sending = threading.Event()
    with (
        fake_cloud(welcome, sending) as port,
        stubbed("gradfec-edge", "--camera", photographs, "--cloud", f"127.0.0.1:{port}", *options) as edge,
    ):
        assert sending.wait(SOON_S)
        edge.process.send_signal(signal.SIGINT)
        edge.wait_until_it_says("a second signal stops at once", SOON_S)
        edge.process.send_signal(signal.SIGINT)
        code, _, output = ended(edge)
    assert code == 0
    assert [json.loads(line)["outcome"] for line in output] == ["timeout"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_cloud_asked_to_stop_answers_the_tensors_at_hand(number: signal.Signals, photographs: Path) -> None:
    port, metrics = free_port(), free_port()
    options = ["--listen", f"127.0.0.1:{port}", "--metrics", metrics, "--json"]
    with stubbed("gradfec-cloud", *options, BACK_END_S=1.0) as cloud:
        where = ["--camera", photographs / "chelsea.png", "--cloud", f"127.0.0.1:{port}"]
        with stubbed("gradfec-edge", *where, "--json", "--results", "-") as edge:
            wait_for(lambda: "gradfec_open_tensors 1" in scraped(metrics))
            cloud.process.send_signal(number)
            code, said, output = ended(cloud)
            record = json.loads(next(edge.lines()))
            assert edge.process.wait(SOON_S) == 0
    assert code == 0
    assert "Traceback" not in said
    assert record["outcome"] == "complete"
    tensors = json.loads(output[-1])["tensors"]
    assert tensors["opened"] == tensors["complete"] == 1


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SOON_S) as answer:
        text: str = answer.read().decode()
        return text


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)
