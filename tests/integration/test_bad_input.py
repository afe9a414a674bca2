"""Bad input gets one clear line and an exit code: 2 for a wrong option, 1 for what is wrong outside the program."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from gradfec_cli.daemons import free_port, with_key
from gradfec_common.codes import CODES, LEOPARD
from gradfec_common.keys import new_key
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host.key_files import KEY_FILE_VARIABLE, write_key
from gradfec_host.weights import ensure_weights, write_slice

from .endings import SOON_S, is_one_clear_line

MODULES = {
    "gradfec": "gradfec_cli.cli",
    "gradfec-edge": "gradfec_edge.cli",
    "gradfec-cloud": "gradfec_cloud.cli",
    "gradfec-netem": "gradfec_cli.netem",
}
LONG_LABEL = 70 * "a"


class Case(NamedTuple):
    """A command line, what it exits with, and words that its error holds; {names} are of `places`."""

    command: str
    code: int
    words: str


EDGE = "gradfec-edge --camera {photo} --cloud 127.0.0.1:9"
SQRT4 = f"{EDGE} --codec sqrt4"
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
    Case(f"{EDGE} --cloud localhost", 2, "'localhost' has no port"),
    Case(f"{EDGE} --cloud :9000", 2, "':9000' has no host"),
    Case(f"{EDGE} --cloud localhost:", 2, "'' in 'localhost:' is not a port"),
    Case(f"{EDGE} --cloud localhost:0", 2, "from 1 to 65535"),
    Case(f"{EDGE} --cloud localhost:65536", 2, "from 1 to 65535"),
    Case(f"{EDGE} --cloud localhost:http", 2, "'http' in 'localhost:http' is not a port"),
    Case(f"{EDGE} --cloud localhost:-1", 2, "is not a port"),
    Case(f"{EDGE} --mode fast", 2, "'fast' is not 'paper'"),
    Case(f"{EDGE} --codec bmp", 2, "no codec is called 'bmp': use auto or one of uniform8, "),
    Case(
        f"{SQRT4} --split conv1_conv --importance activation",
        2,
        "sqrt4 is not made for the tensors of conv1_conv: use one of uniform8, ",
    ),
    Case(f"{EDGE} --codec webp:0", 2, "'webp:0': the quality is a whole number from 1 to 100, for example webp:75"),
    Case(f"{EDGE} --codec sqrt4:75", 2, "no codec is called 'sqrt4:75'"),
    Case(f"{EDGE} --codec webp --split pool1_pool", 2, "webp is not made for the tensors of pool1_pool: use one of"),
    Case(f"{EDGE} --codec webp --importance activation", 2, "matter in their order: leave --importance activation out"),
    Case(f"{EDGE} --codec webp --protect FEC_20_80", 2, "drops 19 of 96 packets, and webp:75 needs all of them: use"),
    Case(f"{EDGE} --packets-per-datagram 0", 2, "not in the range"),
    Case(f"{EDGE} --packets-per-datagram few", 2, "not a valid integer"),
    Case(f"{EDGE} --protect FEC_50", 2, "'fec_50' is no protection policy: use one of auto  none  fec_a_b"),
    Case(f"{EDGE} --protect luck", 2, "'luck' is no protection policy"),
    Case(f"{EDGE} --protect nested:4,a", 2, "is not a nested protection: write nested:4,8,12, or nested:4,8,12/16"),
    Case(f"{EDGE} --protect nested:8,4", 2, "each k must be greater than the one before it"),
    Case(f"{EDGE} --protect nested:4,8/6", 2, "none greater than the 6 datagrams"),
    Case(f"{EDGE} --protect nested:4,300", 2, "asks for 300 datagrams; zfec has 256 at most: use --fec leopard"),
    Case(f"{EDGE} --protect nested:{{many}}", 2, "has 33 classes, more than 32"),
    Case(f"{SQRT4} --protect nested:{{few}}", 2, "leaves 30 bytes of a datagram for each of its 32 classes"),
    Case(
        f"{SQRT4} --protect nested:9/9000 --fec leopard",
        2,
        "makes 9000 datagrams of 2048 packets; 4 a packet are",
    ),
    Case(f"{SQRT4} --protect FEC_99.99_0.01", 2, "drops all 2048 packets of a tensor and sends nothing"),
    Case(f"{EDGE} --protect FEC_50_60", 2, "a + b = 110, not 100"),
    Case(f"{EDGE} --protect FEC_100_0", 2, "leaves nothing to protect"),
    Case(f"{EDGE} --fec turbo", 2, "'turbo' is not an erasure code: use zfec or leopard"),
    Case(f"{EDGE} --fec zfec:257", 2, "a group with zfec has 2 to 256 datagrams"),
    Case(f"{EDGE} --importance telepathy", 2, "no importance estimator is called 'telepathy': use one of proxy, "),
    Case(f"{EDGE} --importance {{text_npz}}", 2, "an estimator made by gradfec train-proxy"),
    Case(f"{EDGE} --importance {{slice}}", 2, "an estimator made by gradfec train-proxy"),
    Case(
        f"{SQRT4} --importance proxy --rows 14",
        2,
        "proxy ranks packets of 7 rows of conv2_block1_add, not of 14 rows",
    ),
    Case(
        f"{SQRT4} --importance proxy --rows 14",
        2,
        "train-proxy --split conv2_block1_add --rows 14, or use",
    ),
    Case(f"{EDGE} --importance static --split pool1_pool", 2, "not of 7 rows of pool1_pool: train one with gradfec"),
    Case(f"{EDGE} --split conv2_block1_ad", 2, "did you mean conv2_block1_add"),
    Case(f"{EDGE} --split conv2_block1_1_conv", 2, "nearest split points are pool1_pool and conv2_block1_add"),
    Case(f"{EDGE} --split predictions", 2, "last layer"),
    Case(f"{SQRT4} --rows 5", 2, "do not divide the 56 rows"),
    Case(f"{EDGE} --rows 0", 2, "not in the range"),
    Case(f"{EDGE} --rows 28 --codec uniform8", 2, "takes 1572 bytes, more than the 1133 that a datagram has for it"),
    Case(f"{EDGE} --rows 28 --mode paper", 2, "smaller --rows, or a --codec of fewer bits"),
    Case(
        f"{SQRT4} --rows 28 --protect nested:4,8",
        2,
        "for each of its 2 classes, and a packet takes 788: use fewer",
    ),
    Case(f"{EDGE} --rows 224 --split input_layer --codec uniform8", 2, "of 224 rows takes 50176 bytes: use smaller"),
    Case(f"{EDGE} --fps -1", 2, "not in the range"),
    Case(f"{EDGE} --fps nan", 2, "nan is not a finite number"),
    Case(f"{EDGE} --fps five", 2, "not a valid float"),
    Case(f"{EDGE} --rate 0", 2, "not in the range"),
    Case(f"{EDGE} --rate nan", 2, "nan is not a finite number"),
    Case(f"{EDGE} --rate inf", 2, "inf is not a finite number"),
    Case(f"{EDGE} --in-flight 0", 2, "not in the range"),
    Case(f"{EDGE} --timeout-ms 0", 2, "not in the range"),
    Case(f"{EDGE} --name {300 * 'n'}", 2, "use a shorter --name"),
    Case(f"{EDGE} --key-file {{missing}}", 2, "make one with `gradfec keygen`, or copy the other"),
    Case(f"{EDGE} --key-file {{key}} --insecure", 2, "--insecure runs without a key: do not combine it"),
    Case("gradfec-cloud", 2, "missing option '--listen'"),
    Case("gradfec-cloud --listen everywhere", 2, "is not a port"),
    Case(f"{CLOUD} --split conv9", 2, "no layer 'conv9'"),
    Case(f"{CLOUD} --split conv2_block1_1_conv", 2, "nearest split points"),
    Case(f"{CLOUD} --deadline-ms 0", 2, "not in the range"),
    Case(f"{CLOUD} --fill median", 2, "no concealment is called 'median': use one of auto, zero, mean"),
    Case(f"{CLOUD} --key-file {{missing}}", 2, "make one with `gradfec keygen`, or copy the other"),
    Case(f"{CLOUD} --keys {{keys}} --key-file {{missing}}", 2, "make one with `gradfec keygen`, or copy the other"),
    Case(f"{CLOUD} --key-file {{key}} --insecure", 2, "lets everybody in: give it without --key-file and --keys"),
    Case(f"{CLOUD} --keys {{keys}} --insecure", 2, "lets everybody in: give it without --key-file and --keys"),
    Case(f"{CLOUD} --split pool1_pool --fill mean", 2, "no channel means for the split 'pool1_pool'"),
    Case("gradfec frobnicate", 2, "no such command 'frobnicate'"),
    Case("gradfec demo --images {missing}", 2, "is not a folder"),
    Case("gradfec demo --images {empty}", 2, "has no images"),
    Case("gradfec demo --loss 140%", 2, "not a share of the datagrams"),
    Case("gradfec demo --burst 0.5", 2, "not a number of datagrams, at least 1"),
    Case("gradfec demo --loss 90% --burst 2", 2, "is impossible"),
    Case("gradfec demo --protect FEC_60_60", 2, "a + b = 120, not 100"),
    Case("gradfec demo --fec turbo", 2, "'turbo' is not an erasure code: use zfec or leopard"),
    Case("gradfec sweep daemons --images {photos} --fec turbo", 2, "'turbo' is not an erasure code: use zfec"),
    Case("gradfec sweep daemons", 2, "missing option '--images'"),
    Case("gradfec sweep daemons --images {missing}", 2, "is not a folder"),
    Case("gradfec sweep daemons --images {empty}", 2, "has no images"),
    Case("gradfec sweep daemons --images {photos} --loss 10%,most", 2, "'most' is not a share"),
    Case("gradfec sweep daemons --images {photos} --protect none,FEC_1", 2, "no protection policy"),
    Case("gradfec sweep daemons --images {photos} --importance luck", 2, "'luck': use one of proxy, "),
    Case("gradfec sweep daemons --images {photos} --labels {photo}", 2, "not a list of labels"),
    Case("gradfec sweep daemons --images {photos} --labels {text}", 2, "not a list of labels"),
    Case("gradfec train-proxy --out new.npz", 2, "missing option '--images'"),
    Case("gradfec train-proxy --images {photos}", 2, "missing option '--out'"),
    Case(f"{TRAIN} --images {{missing}}", 2, "is not a folder: --images takes a folder of images"),
    Case(f"{TRAIN} --images {{photo}}", 2, "is not a folder"),
    Case(f"{TRAIN} --images {{empty}}", 2, "has no images"),
    Case(f"{TRAIN} --out new.h5", 2, "--out new.h5 must end in .npz"),
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
    Case(f"{EDGE} --cloud {LONG_LABEL}:9000", 2, "cannot be a host's name: each part has 1 to 63 characters"),
    Case(f"{EDGE} --results {{missing}}/out.jsonl", 1, "there is no folder"),
    Case(f"{EDGE} --results {{empty}}", 1, "is a directory"),
    Case(f"{EDGE} --weights {{missing}}", 1, "no weights at"),
    Case(f"{EDGE} --weights {{text}}", 1, "cannot read"),
    Case(f"{EDGE} --weights {{cut_short}}", 1, "cannot read"),
    Case(f"{EDGE} --importance {{missing}}.npz", 1, "make one with gradfec train-proxy --out"),
    Case(f"{EDGE} --key-file {{open_key}}", 1, "users other than its owner have access to the key {open_key}: run"),
    Case(f"{EDGE} --key-file {{no_key}}", 1, "{no_key}: this is not a gradfec key: a key begins with gradfec1-"),
    Case(f"{EDGE} --key-file {{empty}}", 1, "is not a regular file, so it cannot hold a key"),
    Case(f"{CLOUD} --key-file {{open_key}}", 1, "run `chmod 600"),
    Case(f"{CLOUD} --keys {{missing}}", 1, "cannot read the directory of keys {missing}: no such file or directory"),
    Case(f"{CLOUD} --keys {{empty}}", 1, "there are no keys in {empty}: put one file there for each edge"),
    Case(f"{CLOUD} --keys {{key}}", 1, "cannot read the directory of keys {key}: not a directory"),
    Case(f"{CLOUD} --keys {{bad_keys}}", 1, "users other than its owner have access to the key {bad_keys}/south"),
    Case("gradfec-cloud --listen 127.0.0.1:{udp}", 1, "is in use already"),
    Case("gradfec-cloud --listen 192.0.2.1:9000", 1, "not of this machine"),
    Case("gradfec-cloud --listen nobody.invalid:9000", 1, "cannot listen on nobody.invalid:9000"),
    Case(f"gradfec-cloud --listen {LONG_LABEL}:9000", 2, "cannot be a host's name"),
    Case(f"{CLOUD} --metrics {{tcp}}", 1, "cannot serve metrics on 127.0.0.1:"),
    Case(f"{CLOUD} --metrics {LONG_LABEL}:9100", 2, "cannot be a host's name"),
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
    for path in ("key", "open_key", "keys/north", "bad_keys/north", "bad_keys/south"):
        write_key(folder / path, new_key(os.urandom))
    for path in ("open_key", "bad_keys/south"):
        (folder / path).chmod(0o644)
    (folder / "no_key").write_text("swordfish")
    (folder / "no_key").chmod(0o600)
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
            **{name: folder / name for name in ("key", "open_key", "no_key", "keys", "bad_keys")},
            "udp": udp.getsockname()[1],
            "tcp": tcp.getsockname()[1],
            "free": free_port(),
            "many": ",".join(map(str, range(1, 34))),
            "few": ",".join(map(str, range(1, 33))),
        }


def edge_slice(path: Path) -> Path:
    write_slice(ensure_weights(RESNET50), named_cut(DEFAULT_CUT), path)
    return path


def words_of(command: str, places: dict[str, object]) -> tuple[str, list[str]]:
    name, *arguments = command.split()
    return name, [argument.format(**places) for argument in arguments]


def named(case: Case) -> str:
    return case.command


@pytest.mark.parametrize("case", WRONG_OPTIONS + WRONG_WORLD, ids=named)
def test_bad_input_is_one_clear_line_and_an_exit_code_before_tensorflow_is_imported(
    case: Case, places: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        *("tensorflow", "keras", "ai_edge_litert.interpreter"),
        *("gradfec_edge.frontend.litert_runtime", "gradfec_edge.frontend.keras_runtime"),
        *("gradfec_cloud.backend.litert_runtime", "gradfec_cloud.backend.keras_runtime"),
    ):
        monkeypatch.setitem(sys.modules, name, None)  # importing it is an error
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(places["key"]))
    program, arguments = words_of(case.command, places)
    ended = CliRunner().invoke(import_module(MODULES[program]).main, arguments, prog_name=program)
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == case.code
    assert is_one_clear_line(ended.stderr, case.words.format(**places)), ended.stderr
    assert not ended.stdout


def test_a_code_that_is_not_installed_says_how_to_install_it_and_what_to_use_instead(
    places: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(CODES, LEOPARD.id, raising=False)
    program, arguments = words_of(f"{EDGE} --fec leopard", places)
    ended = CliRunner().invoke(import_module(MODULES[program]).main, arguments)
    assert ended.exit_code == 2
    words = "leopard needs the package reed-solomon-leopard, which is not installed: use zfec, or pip install"
    assert is_one_clear_line(ended.stderr, words), ended.stderr


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
    ended = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=SOON_S, check=False, env=with_key()
    )
    assert ended.returncode == case.code
    assert is_one_clear_line(ended.stderr, case.words), ended.stderr


# --- weights, whose arrays are looked at when the network is built ---


@pytest.mark.daemons
def test_a_cloud_given_an_edges_slice_of_the_weights_says_what_it_is(places: dict[str, object]) -> None:
    program, arguments = words_of(f"{CLOUD} --weights {{slice}}", places)
    ended = CliRunner(env=with_key()).invoke(import_module(MODULES[program]).main, arguments)
    assert ended.exit_code == 1
    assert is_one_clear_line(ended.stderr, "give a file with all weights, or none"), ended.stderr


@pytest.mark.daemons
def test_a_flipped_bit_in_the_weights_is_found_before_a_frame_is_sent(
    places: dict[str, object], tmp_path: Path
) -> None:
    damaged = edge_slice(tmp_path / "damaged.npz")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    program, arguments = words_of(f"{EDGE} --weights {damaged}", places)
    ended = CliRunner(env=with_key()).invoke(import_module(MODULES[program]).main, arguments)
    assert ended.exit_code == 1
    assert is_one_clear_line(ended.stderr, str(damaged).lower()), ended.stderr
