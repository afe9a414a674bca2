"""The weight store: a network's float32 arrays by layer, each verified by its SHA-256 when it is read."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import platformdirs
from numpy.typing import NDArray

from gradfec_common.errors import GradfecError
from gradfec_common.networks import Cut, Layer, Network
from gradfec_host.weights.archive import open_archive, replace_archive
from gradfec_host.weights.formats import Read, open_arrays
from gradfec_host.weights.hashes import Verification, is_published, pinned, sha256

Progress = Callable[[str, int, "int | None"], None]  # (step, bytes done, bytes in total if known)

# The exceptions of zipfile, h5py, json and numpy for an unreadable, truncated or hostile file.
DAMAGE = (
    OSError, EOFError, KeyError, IndexError, ValueError, TypeError, AttributeError, RuntimeError, NotImplementedError,
    OverflowError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def gradfec_home() -> Path:
    """Return the directory for downloads: $GRADFEC_HOME, or the platform's cache directory."""
    home = os.environ.get("GRADFEC_HOME")
    return Path(home).expanduser() if home else platformdirs.user_cache_path("gradfec", appauthor=False)


def cache_path(network: Network) -> Path:
    """Return the path of a network's cached weights, which may not exist yet."""
    return gradfec_home() / "weights" / f"{network.name}-imagenet.npz"


class Weights(Protocol):
    """The arrays of a network's layers."""

    def arrays(self, layer: str) -> list[NDArray[np.float32]]:
        """Return a layer's arrays, in Keras's order; GradfecError if there are none."""


class WeightStore:
    """A network's arrays by layer, read and verified one by one on request."""

    def __init__(
        self,
        network: Network,
        path: Path,
        read: Mapping[str, Read],
        digests: Mapping[str, str],
        route: str,
        verification: Verification,
    ) -> None:
        """Offer the arrays that `digests` lists with their SHA-256."""
        self.network = network
        self.path = path
        self.route = route
        self.verification = verification
        self._read = read
        self._digests = digests

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the arrays in the file: `conv1_conv/kernel` and so on."""
        return tuple(self._digests)

    def has(self, layers: Collection[Layer]) -> bool:
        """Return whether the file has all arrays of these layers."""
        return all(f"{layer.name}/{array}" in self._digests for layer in layers for array in layer.arrays)

    @property
    def verified(self) -> bool:
        """Whether these are known to be Keras's ImageNet weights."""
        return self.verification is not Verification.NONE

    def arrays(self, layer: str) -> list[NDArray[np.float32]]:
        """Return the arrays of `layer` in the order of Keras's get_weights(); none for a layer without weights.

        GradfecError if an array is missing, unreadable, of another shape, or has another digest.
        """
        return [self.array(f"{layer}/{array}") for array in self.network.by_name[layer].arrays]

    def array(self, name: str) -> NDArray[np.float32]:
        """Return one array, verified; GradfecError as for `arrays`."""
        if name not in self._digests:
            raise GradfecError(
                f"{self.path} holds only {len(self._digests)} of {self.network.title}'s {len(pinned(self.network))} "
                f"arrays, a front-end's, and {name} is not one of them: give a file with all weights, or none to use "
                "the cached ones"
            )
        array = read_array(self.network, self.path, self._read, name)
        if sha256(array) != self._digests[name]:
            raise GradfecError(
                f"{self.path}: array {name} is damaged or altered, its SHA-256 is wrong: "
                f"{remedy(self.network, self.path)}"
            )
        return array


def read_array(network: Network, path: Path, read: Mapping[str, Read], name: str) -> NDArray[np.float32]:
    """Read array `name` of the file at `path`; GradfecError unless it exists and is float32 of the network's shape."""
    if name not in read:
        raise GradfecError(
            f"{path} is not a whole {network.title} with ImageNet's 1,000 classes: it has no array {name}"
        )
    try:
        array = read[name]()
    except DAMAGE as error:
        raise GradfecError(f"{path}: array {name} cannot be read ({error}): {remedy(network, path)}") from error
    wanted = pinned(network)[name].shape
    if array.shape != wanted or array.dtype != np.float32:
        raise GradfecError(
            f"{path} is not {network.title} with ImageNet's 1,000 classes: array {name} is {array.dtype} "
            f"{array.shape}, not float32 {wanted}"
        )
    return array


def open_weights(network: Network, path: Path | None = None) -> WeightStore:
    """Open a network's weights at `path`, in any format that gradfec reads, or the cached ones.

    Arrays are read later, on request. GradfecError if the file does not exist or has another format.
    """
    if path is None:
        path = cache_path(network)
        if not path.exists():
            raise GradfecError(f"no weights at {path}: run `gradfec weights` to download them")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise GradfecError(f"cannot read {path} (not a regular file): {remedy(network, path)}")
    try:
        archive = open_archive(path, network)
        if archive is not None:
            return WeightStore(network, path, archive.read, archive.digests, archive.route, archive.verification)
        read = open_arrays(path, network)
        if is_published(path):  # its arrays are Keras's, whatever their digests
            digests = {name: sha256(read_array(network, path, read, name)) for name in pinned(network)}
            return WeightStore(network, path, read, digests, str(path), Verification.FILE)
    except FileNotFoundError as error:
        raise GradfecError(f"no weights at {path}: {error.filename} does not exist") from error
    except DAMAGE as error:
        raise GradfecError(f"cannot read {path} ({error}): {remedy(network, path)}") from error
    digests = {name: row.sha256 for name, row in pinned(network).items()}
    return WeightStore(network, path, read, digests, str(path), Verification.ARRAYS)


def import_weights(
    network: Network,
    source: Path,
    route: str | None = None,
    unverified: bool = False,
    progress: Progress | None = None,
) -> WeightStore:
    """Check a network's weights in `source`, of any format, and copy them into the cache; return the new store.

    The cache records `route` as their origin. GradfecError if they are not Keras's ImageNet weights; with `unverified`,
    other values of the same shapes are accepted, and the cache records that too. After any error, the old cache stays.
    """
    store = open_weights(network, source)
    read = store._read
    done, total = 0, 4 * sum(int(np.prod(row.shape)) for row in pinned(network).values())
    with replace_archive(cache_path(network)) as archive:
        for name in pinned(network):
            array = read_array(network, source, read, name)
            archive.add(name, array)
            done += array.nbytes
            if progress:
                progress("checking arrays", done, total)
        archive.finish(route or str(source.resolve()), _verify(store, archive.digests, unverified))
    return open_weights(network)


def _verify(store: WeightStore, found: Mapping[str, str], unverified: bool) -> Verification:
    """Compare the digests `found` with those that `store` expects."""
    altered = [name for name, digest in found.items() if digest != store._digests[name]]
    if not altered and store.verified:
        return store.verification
    if unverified:
        return Verification.NONE
    first = f", the first is {altered[0]}" if altered else ""
    raise GradfecError(
        f"{store.path} does not hold Keras's ImageNet weights: {len(altered) or 'some'} of {len(found)} arrays differ"
        f"{first}; if that is intended (your own training), accept them with --unverified"
    )


def write_slice(store: WeightStore, cut: Cut, target: Path) -> WeightStore:
    """Write only the arrays before `cut` to `target`, which an edge needs; return the store of that file."""
    with replace_archive(target) as archive:
        for layer in cut.front_layers:
            for array in layer.arrays:
                archive.add(f"{layer.name}/{array}", store.array(f"{layer.name}/{array}"))
        archive.finish(store.route, store.verification)
    return open_weights(store.network, target)


def remedy(network: Network, path: Path) -> str:
    """Return what to do about a damaged file."""
    if path == cache_path(network):
        return "run `gradfec weights --refresh` to download the weights again"
    return "copy the file again, or leave it out to use Keras's ImageNet weights"
