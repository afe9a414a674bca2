"""Checks of this machine: installed packages, weights, key, kernel, disk, camera."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from gradfec_cli.doctor.finding import Finding, bad, broken, ok, warning
from gradfec_common.errors import GradfecError
from gradfec_common.networks import Cut, Network
from gradfec_host.console import Endpoint
from gradfec_host.quality import DEFAULT_QUALITY
from gradfec_host.recent import kilobytes
from gradfec_host.runtimes import LITERT, RUNTIMES, installed

FRONT_ENDS = {"litert": "gradfec_edge.frontend.litert_runtime", "tensorflow": "gradfec_edge.frontend.keras_runtime"}
DISTRIBUTIONS = {"litert": "ai-edge-litert", "tensorflow": "tensorflow"}
LOAD_PATIENCE_S = 300  # for TensorFlow's import on a slow machine
FIRST_FRAME_S = 15.0
POLL_S = 0.1  # how soon a camera's warning is noticed
LITTLE_SPACE_BYTES = 1e9
COARSE_CLOCK_S = 0.001  # the edge paces its datagrams by the millisecond
PLAUSIBLE_YEAR = 2025


def versions() -> Finding:
    """Compare the installed Python and packages with what gradfec needs."""
    try:
        asked = metadata("gradfec")
    except PackageNotFoundError:
        return warning(
            "gradfec runs from its folder, but is not installed",
            "run pip install '.[edge]', or '.[cloud]', in the clone of gradfec",
        )
    python = platform.python_version()
    wrong = (
        [] if python in SpecifierSet(asked["Requires-Python"]) else [f"Python {python} ({asked['Requires-Python']})"]
    )
    needs = [need for need in map(Requirement, requires("gradfec") or []) if not need.marker or need.marker.evaluate()]
    wrong += filter(None, map(unmet, needs))
    if wrong:
        return broken(
            f"gradfec {asked['Version']} needs other versions: {', '.join(wrong)}", "pip install gradfec again"
        )
    return ok(f"gradfec {asked['Version']}, Python {python}, and all {len(needs)} packages that it needs")


def unmet(need: Requirement) -> str:
    """Return what is wrong with the installed version of a package, or "" if it fits."""
    try:
        has = version(need.name)
    except PackageNotFoundError:
        return f"{need.name} is missing"
    return "" if need.specifier.contains(has, prereleases=True) else f"{need.name} {has} ({need.specifier})"


def runtime() -> Finding:
    """Load the runtime in another process, because a broken one may kill it."""
    found = installed()
    if not found:
        return broken("neither LiteRT nor TensorFlow is installed", f"pip install 'gradfec[{LITERT}]'")
    first = found[0]
    names = ", ".join(f"{RUNTIMES[name]} {version(DISTRIBUTIONS[name])}" for name in found)
    try:
        loaded = subprocess.run(
            [sys.executable, "-c", f"import {FRONT_ENDS[first]}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=LOAD_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return broken(
            f"{names}: {first} has not loaded in {LOAD_PATIENCE_S} s", f"pip install --force-reinstall {first}"
        )
    if loaded.returncode:
        reason = loaded.stderr.strip().rpartition("\n")[2]
        if loaded.returncode < 0:
            reason = (
                f"killed by {signal.Signals(-loaded.returncode).name}; this CPU may lack instructions that it needs"
            )
        return broken(f"{first} does not load: {reason}", f"pip install --force-reinstall {DISTRIBUTIONS[first]}")
    return ok(f"{names}; {first} is used")


def weights(network: Network, path: Path | None, shipped: bool) -> Finding:
    """Read and verify every array of a network's weights at `path`, or of the cached ones.

    `shipped`: this machine needs no more than the weights that gradfec ships.
    """
    from gradfec_host.weights import cache_path, open_weights

    if path is None and not cache_path(network).exists():
        if shipped:
            return ok("an edge at the default split needs no more than gradfec ships")
        return warning(
            f"none at {cache_path(network)} yet: a cloud's first start downloads them, 100 MB; an edge at the default "
            "split needs no more than gradfec ships",
            "gradfec weights",
        )
    try:
        store = open_weights(network, path)
        for name in store.names:
            store.array(name)
    except GradfecError as error:
        return broken(str(error))
    if not store.verified:
        return warning(f"{store.path}: readable, but not Keras's ImageNet weights", "gradfec weights --refresh")
    return ok(f"{store.path}, {len(store.names)} arrays, every checksum correct")


def key(key_file: Path | None, folder: Path | None, insecure: bool) -> Finding:
    """Read the key, or all keys of a folder, as the daemons do."""
    from gradfec_cloud.access import key_source
    from gradfec_common.keys import INSECURE_WARNING
    from gradfec_host.key_files import key_path

    try:
        keys = key_source(key_file, folder, insecure=insecure)()
    except GradfecError as error:
        return broken(str(error))
    if insecure:
        return warning(INSECURE_WARNING, "run gradfec keygen, and leave out --insecure")
    where = str(folder) if folder else f"{key_path(key_file)}, which only its owner can read"
    ids = ", ".join(f"{one.label or 'id'} {number.hex()}" for number, one in keys.items())
    return ok(f"{ids}, in {where}")


def port(listen: Endpoint, named: bool, answers: Callable[[], bool]) -> Finding:
    """Check whether a cloud could listen, or one with our key already does; `answers` says so."""
    from gradfec_cloud.port import Port

    try:
        Port(listen).close()
    except GradfecError as error:
        if answers():
            return ok(f"UDP port {listen.port}: gradfec-cloud listens there, with this key")
        return bad(
            named,
            f"{error} (no gradfec-cloud with this machine's key answers there)",
            f"see what uses it: ss -ulpn sport = :{listen.port}",
        )
    return ok(f"UDP port {listen.port} is free: gradfec-cloud can listen there")


def receive_buffer() -> Finding:
    """Ask the kernel for a receive buffer of the size that the cloud needs."""
    from gradfec_cloud.port import RECEIVE_BUFFER_BYTES, small_buffer_hint
    from gradfec_host.buffers import grow_receive_buffer

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        granted = grow_receive_buffer(opened, RECEIVE_BUFFER_BYTES)
    if granted < RECEIVE_BUFFER_BYTES:
        hint, _, _ = small_buffer_hint(granted).partition("; ")
        return warning(hint, f"on the cloud's machine: sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES}")
    return ok(f"{granted >> 20} MiB, as a busy cloud needs")


def offload() -> Finding:
    """Check whether the kernel sends and receives many datagrams a system call."""
    from gradfec_cloud.receive import batches_runs
    from gradfec_edge.udp import can_segment

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        has = {"UDP_SEGMENT": can_segment(opened), "UDP_GRO": batches_runs(opened)}
    missing = [name for name, there in has.items() if not there]
    if missing:
        return warning(
            f"this kernel has no {' and no '.join(missing)}: each datagram costs one system call",
            "nothing depends on it; Linux 4.18 and 5.0 introduced them",
        )
    return ok("UDP_SEGMENT and UDP_GRO: many datagrams a system call")


def frame(cut: Cut) -> Finding:
    """Say what the frames of an edge with the default options ask of the link."""
    from gradfec_common.protect import AutoProtection
    from gradfec_edge.coding import codec_file, coding_of
    from gradfec_edge.modes import DEFAULTS

    coding = coding_of(cut, rows=None, protect=None, **DEFAULTS)
    size, about, most = coding.check(), "", ""
    if size is None and (file := codec_file(DEFAULTS["codec"], cut)) and (usual := file.measured(DEFAULT_QUALITY)):
        size, about = usual.bytes, "about "
    if size is None:
        return ok("the bytes of a frame depend on the frame")
    if isinstance(coding.policy, AutoProtection):
        most = ", and more, for better answers, where it carries more"
    kbit = 8 * size / 1000
    return ok(
        f"with the default options, {about}{kilobytes(size)} a frame: the link must carry {kbit:.0f} kbit/s for each "
        f"frame a second{most}; gradfec-edge warns if it does not",
        frame_bytes=size,
    )


def clock() -> Finding:
    """Check the monotonic clock, which the protocol uses, and the time of day, which it does not need."""
    monotonic = time.get_clock_info("monotonic")
    if not monotonic.monotonic or monotonic.resolution > COARSE_CLOCK_S:
        return warning(
            f"the monotonic clock has steps of {1000 * monotonic.resolution:g} ms: datagrams leave in bursts",
            "use another clock source: /sys/devices/system/clocksource/clocksource0",
        )
    now = time.gmtime()
    if now.tm_year < PLAUSIBLE_YEAR:
        return warning(
            f"the time of day is {time.strftime('%Y-%m-%d', now)}: the protocol does not care, but logs will be "
            "misleading, and downloads of the weights may fail",
            "set it, or let NTP set it: timedatectl set-ntp true",
        )
    return ok("the monotonic clock, which the protocol needs, is fine; the time of day matters only to logs")


def disk(folder: Path, named: bool) -> Finding:
    """Check whether results can be written to a folder, and how much space is left."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return bad(named, f"cannot write results to {folder}: {error.strerror}", "choose another folder: --results")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return bad(
            named, f"cannot write results to {folder}: it is not a folder that you can write to", "chown or chmod it"
        )
    text = f"{free / 1e9:.1f} GB free for results in {folder.absolute()}"
    if free < LITTLE_SPACE_BYTES:
        return warning(f"only {text}", "free space, or write --results elsewhere", free_bytes=free)
    return ok(text, free_bytes=free)


def camera(src: str | None) -> Finding:
    """Take one frame from a source; without a source, only list the devices."""
    if src is None:
        devices = sorted(str(path) for path in Path("/dev").glob("video*"))
        there = f"there are {', '.join(devices)}" if devices else "there is no /dev/video*"
        return ok(f"not tried: {there}; --camera takes a frame from a device, stream, video or folder")
    from gradfec_edge.camera import open_source, without_password

    if (denied := no_permission(Path(src))) is not None:
        return denied
    warnings: list[str] = []
    try:
        source = open_source(src, warn=warnings.append)
        try:
            frame, until = None, time.monotonic() + FIRST_FRAME_S
            while frame is None and not (warnings or source.ended) and time.monotonic() < until:
                frame = source.next_frame(POLL_S)
        finally:
            source.close()
    except GradfecError as error:
        return broken(str(error))
    shown = without_password(src)
    if frame is None:
        reason = warnings[0] if warnings else f"{shown} sent no frame in {FIRST_FRAME_S:.0f} s"
        return broken(
            reason.partition("; trying")[0], "plug it in, or close other programs that use it; ls -l /dev/video*"
        )
    height, width, _ = frame.image.shape
    return ok(f"{shown} sends frames of {width} x {height}")


def no_permission(device: Path) -> Finding | None:
    """Return a finding if the device exists, but this user may not open it."""
    if not device.is_char_device() or os.access(device, os.R_OK | os.W_OK):
        return None
    group = group_of(device)
    return broken(
        f"permission denied on {device}, which belongs to the group {group}",
        f"usermod -aG {group} {os.environ.get('USER', 'USER')} as root, then log in again",
    )


def group_of(path: Path) -> str:
    """Return the name of the group that owns a file, or its number if it has no name."""
    try:
        return path.group()
    except KeyError:
        return str(path.stat().st_gid)
