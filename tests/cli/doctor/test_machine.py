"""Each check of this machine finds what is good and what is bad, and says what to do about the latter."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.untrained import write_codec

from gradfec_cli.doctor import machine
from gradfec_cli.doctor.finding import Finding, State
from gradfec_common.keys import Key
from gradfec_common.networks import named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host import codec_file
from gradfec_host.console import Endpoint
from gradfec_host.key_files import write_key
from gradfec_host.weights import WeightStore, write_slice

KEY = Key(b"k" * 32)


def assert_mendable(finding: Finding, state: State, *words: str) -> None:
    assert finding.state is state
    said = f"{finding.text} {finding.remedy}"
    assert all(word in said for word in words), said
    assert "\n" not in said


# --- versions, runtime ---


def needs(monkeypatch: pytest.MonkeyPatch, python: str, *lines: str) -> Finding:
    monkeypatch.setattr(machine, "metadata", lambda name: {"Requires-Python": python, "Version": "9.9"})
    monkeypatch.setattr(machine, "requires", lambda name: [*lines])
    return machine.versions()


def test_packages_that_are_as_asked_for_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = needs(monkeypatch, ">=3.10", "numpy>=1", "nowhere; extra == 'dev'", "nothing; python_version < '3'")
    assert found.state is State.OK
    assert "gradfec 9.9" in found.text and "all 1 packages" in found.text


def test_what_is_missing_or_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = needs(monkeypatch, "<3", "numpy<1", "no-such-package>=2", "click")
    assert_mendable(found, State.BROKEN, "(<3)", "numpy", "(<1)", "no-such-package is missing", "pip install")
    assert "click" not in found.text


def test_gradfec_that_is_not_installed_is_no_more_than_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise machine.PackageNotFoundError(name)

    monkeypatch.setattr(machine, "metadata", absent)
    assert_mendable(machine.versions(), State.WARNING, "not installed", "pip install")


@pytest.mark.parametrize(
    ("code", "says", "words"),
    [
        (0, "", ""),
        (1, "Traceback\nImportError: libfoo.so.1 is not there", "libfoo.so.1 is not there"),
        (-4, "", "SIGILL"),
    ],
)
def test_a_runtime_that_does_not_load_is_broken_whatever_it_dies_of(
    code: int, says: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "installed", lambda: ["litert"])
    monkeypatch.setattr(machine, "version", lambda name: "1.2.3")
    done = subprocess.CompletedProcess([], code, "", says)
    monkeypatch.setattr(machine.subprocess, "run", lambda *arguments, **options: done)
    found = machine.runtime()
    assert found.state is (State.BROKEN if code else State.OK)
    assert words in found.text
    assert "pip install" in found.remedy or not code


def test_without_any_runtime_one_is_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "installed", list)
    assert_mendable(machine.runtime(), State.BROKEN, "pip install 'gradfec[litert]'")


# --- weights, key ---


def test_weights_are_read_to_the_last_array(weights: WeightStore, tmp_path: Path) -> None:
    path = tmp_path / "edge.npz"
    write_slice(weights, named_cut("conv1_relu"), path)
    assert machine.weights(RESNET50, path, shipped=False).state is State.OK
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_mendable(machine.weights(RESNET50, path, shipped=False), State.BROKEN, str(path), "copy the file again")


def test_weights_that_are_not_there_yet_are_a_warning_unless_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    assert_mendable(machine.weights(RESNET50, None, shipped=False), State.WARNING, str(tmp_path), "gradfec weights")
    assert machine.weights(RESNET50, None, shipped=True).state is State.OK  # an edge
    assert_mendable(machine.weights(RESNET50, tmp_path / "w.npz", shipped=True), State.BROKEN, "w.npz does not exist")


def test_a_key_is_shown_by_its_public_id_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key(path, KEY)
    found = machine.key(path, None, False)
    assert found.state is State.OK
    assert KEY.id.hex() in found.text and str(path) in found.text
    assert KEY.token[9:] not in found.text
    path.chmod(0o644)
    assert_mendable(machine.key(path, None, False), State.BROKEN, f"chmod 600 {path}")
    assert_mendable(machine.key(tmp_path / "other", None, False), State.BROKEN, "gradfec keygen")
    assert_mendable(machine.key(None, None, True), State.WARNING, "anybody", "keygen")


def test_the_keys_of_a_folder_are_named_after_their_edges(tmp_path: Path) -> None:
    write_key(tmp_path / "keys" / "kitchen", KEY)
    found = machine.key(None, tmp_path / "keys", False)
    assert found.state is State.OK and f"kitchen {KEY.id.hex()}" in found.text
    (tmp_path / "keys" / "attic").write_text("nonsense")
    (tmp_path / "keys" / "attic").chmod(0o600)
    assert_mendable(machine.key(None, tmp_path / "keys", False), State.BROKEN, "attic")


# --- the kernel ---


def test_a_port_that_is_in_use_is_fine_if_a_cloud_with_this_key_has_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        here = Endpoint("127.0.0.1", taken.getsockname()[1])
        assert machine.port(here, True, lambda: True).state is State.OK
        assert_mendable(machine.port(here, True, lambda: False), State.BROKEN, "in use", "ss -ulpn")
        assert_mendable(machine.port(here, False, lambda: False), State.WARNING, "in use", "ss -ulpn")
    assert "is free" in machine.port(here, True, lambda: pytest.fail("it is free")).text


@pytest.mark.parametrize(("granted", "state"), [(8 * 2**20, State.OK), (212_992, State.WARNING)])
def test_a_small_receive_buffer_is_a_warning(granted: int, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradfec_host.buffers.grow_receive_buffer", lambda opened, wanted: granted)
    found = machine.receive_buffer()
    assert found.state is state
    if state is State.WARNING:
        assert_mendable(found, state, "212992", "sysctl -w net.core.rmem_max=8388608")


@pytest.mark.parametrize(("segments", "state"), [(True, State.OK), (False, State.WARNING)])
def test_a_kernel_without_offload_is_a_warning(segments: bool, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradfec_edge.udp.can_segment", lambda opened: segments)
    monkeypatch.setattr("gradfec_cloud.receive.batches_runs", lambda opened: True)
    found = machine.offload()
    assert found.state is state
    assert state is State.OK or ("UDP_SEGMENT" in found.text and "UDP_GRO" not in found.text)


def test_a_clock_of_coarse_steps_or_without_a_date_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = SimpleNamespace(monotonic=True, resolution=1e-9)
    monkeypatch.setattr(machine.time, "get_clock_info", lambda name: fine)
    monkeypatch.setattr(machine.time, "gmtime", lambda: time.struct_time((2030, 1, 1, 0, 0, 0, 0, 1, 0)))
    assert machine.clock().state is State.OK
    monkeypatch.setattr(machine.time, "gmtime", lambda: time.struct_time((1970, 1, 1, 0, 0, 0, 0, 1, 0)))
    assert_mendable(machine.clock(), State.WARNING, "1970-01-01", "the protocol does not care", "NTP")
    fine.resolution = 0.015
    assert_mendable(machine.clock(), State.WARNING, "15 ms", "clocksource")


# --- disk, camera ---


@pytest.mark.parametrize(("free", "state"), [(5e9, State.OK), (1e8, State.WARNING)])
def test_little_space_is_a_warning(free: float, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    found = machine.disk(tmp_path, True)
    assert found.state is state
    assert f"{free / 1e9:.1f} GB" in found.text and found.facts["free_bytes"] == free


def test_a_folder_for_results_must_be_there_if_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_mendable(machine.disk(tmp_path / "no", True), State.BROKEN, "No such file", "--results")
    assert machine.disk(tmp_path / "no", False).state is State.WARNING
    (tmp_path / "file").touch()
    assert_mendable(machine.disk(tmp_path / "file", True), State.BROKEN, "not a folder that you can write to")
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    assert_mendable(machine.disk(tmp_path, True), State.BROKEN, "chmod")


def test_a_camera_that_is_named_gives_a_frame_or_is_broken(photographs: Path, tmp_path: Path) -> None:
    found = machine.camera(str(photographs))
    assert found.state is State.OK and "224 x 224" in found.text
    (tmp_path / "empty.png").touch()
    assert_mendable(machine.camera(str(tmp_path / "empty.png")), State.BROKEN, "is empty")
    assert_mendable(machine.camera(str(tmp_path / "none.png")), State.BROKEN, "does not exist")
    assert_mendable(machine.camera("/dev/video97"), State.BROKEN, "there is no /dev/video97", "plug it in")
    assert machine.camera(None).state is State.OK


def test_a_camera_that_this_user_may_not_open_says_which_group_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    monkeypatch.setattr(machine, "group_of", lambda path: "video")
    assert_mendable(machine.camera(os.devnull), State.BROKEN, os.devnull, "usermod -aG video")


@pytest.mark.parametrize("check", [machine.receive_buffer, machine.offload, machine.clock])
def test_on_the_real_machine_nothing_of_the_kernel_is_called_broken(check: Callable[[], Finding]) -> None:
    assert check().state is not State.BROKEN


def test_the_real_runtime_loads() -> None:
    found = machine.runtime()
    assert found.state is State.OK and "litert is used" in found.text


# --- what the link must carry ---


def test_what_an_edge_with_the_default_options_asks_of_the_link_is_said_in_kbit_a_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(codec_file, "FOLDER", tmp_path)  # no bottleneck is shipped
    found = machine.frame(named_cut("conv2_block1_add"))
    assert found.state is State.OK
    assert "436 kB a frame" in found.text and "3487 kbit/s for each frame a second" in found.text
    assert found.facts == {"frame_bytes": 435_830}


def test_what_a_bottlenecks_frames_ask_of_the_link_is_what_they_had_on_average(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(codec_file, "FOLDER", tmp_path)
    (tmp_path / "resnet50").mkdir()
    path = write_codec(tmp_path / "resnet50" / "conv2_block1_add.npz")
    assert "436 kB a frame" in machine.frame(named_cut("conv2_block1_add")).text  # it is not known to be good enough
    read = codec_file.CodecFile.read(path)
    about = {**read.about, "worth": {"quality": [[3, 5400, 0.8]]}}
    codec_file.CodecFile(path, about, read.arrays).write()
    found = machine.frame(named_cut("conv2_block1_add"))
    assert "about 5.4 kB a frame" in found.text and "43 kbit/s for each frame a second" in found.text
