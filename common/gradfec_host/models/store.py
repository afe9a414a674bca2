"""The store of models: a folder each, with its manifest, its graph or one half of that, and nothing else that counts.

manifest.json   what both ends must agree on, the labels, the default split, and the hashes of the files
model.onnx      the whole graph, to be cut anywhere; a camera box has only its half
front-7.onnx    the edge's half for cut 7
back-7.onnx     the cloud's
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import platformdirs

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.networks import NETWORKS, Cut
from gradfec_common.networks.imported import Imported, imported_network
from gradfec_host.models.learned import codec_path, learned_file, read_learned
from gradfec_host.short_files import read_short

MANIFEST, WHOLE = "manifest.json", "model.onnx"
FRONT, BACK = "front", "back"
MAX_ONNX_BYTES = 2**31 - 1  # of a protocol buffer
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
NOT_OURS = (ValueError, LookupError, TypeError, AttributeError, OverflowError)  # what reading a foreign one may raise


def models_folder() -> Path:
    """Return $GRADFEC_HOME/models, or the folder for them in the platform's directory for data."""
    home = os.environ.get("GRADFEC_HOME")
    data = Path(home).expanduser() if home else platformdirs.user_data_path("gradfec", appauthor=False)
    return data / "models"


def added() -> list[str]:
    """Return the names of all models that were added."""
    folder = models_folder()
    found = folder.glob(f"[!.]*/{MANIFEST}")  # one with a dot is half written
    return sorted(path.parent.name for path in found)


def checked_name(name: str) -> str:
    """Return the name for a model; UsageError if it cannot be one."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a model's name: use small letters, digits, and . _ - between them")
    if name in NETWORKS:
        raise UsageError(f"{name} is built in: choose another --name")
    return name


@dataclass(frozen=True)
class Model:
    """A model's folder, and the network that its manifest describes."""

    folder: Path
    said: Mapping[str, Any]
    network: Imported

    @classmethod
    def read(cls, folder: Path, name: str | None = None) -> Model:
        """Read a folder's manifest, of a model that is called `name`; GradfecError if it is not one, or is damaged."""
        try:
            said = json.loads(read_short(folder / MANIFEST))
        except FileNotFoundError:
            raise GradfecError(f"there is no model in {folder}: it has no {MANIFEST}") from None
        except OSError as error:
            raise GradfecError(f"cannot read the model in {folder}: {error.strerror or error}") from None
        except (ValueError, RecursionError):
            raise _damaged(folder, "the manifest is not JSON") from None
        try:
            said = {**said, "name": name or said["name"], "files": _hashes(said["files"])}
            return cls(folder, said, imported_network(said))
        except UsageError as error:
            raise _damaged(folder, str(error)) from None
        except NOT_OURS as error:
            raise _damaged(folder, f"{type(error).__name__}: {error}") from None

    @property
    def is_whole(self) -> bool:
        """Whether the whole graph is there, and so any cut's halves."""
        return (self.folder / WHOLE).is_file()

    @cached_property
    def held(self) -> list[tuple[str, Cut]]:
        """The halves that are there as files of their own: "front" or "back", and the cut."""
        cuts = {f"{side}-{cut.id}": (side, cut) for cut in self.network.cuts for side in (FRONT, BACK)}
        return [cuts[name] for name in self.said["files"] if name in cuts and (self.folder / f"{name}.onnx").is_file()]

    def need_whole(self, command: str) -> None:
        """Raise UsageError, which names the command, if only a part of the model is here."""
        if not self.is_whole:
            halves = {FRONT: "the edge's half", BACK: "the cloud's half"}
            there = " and ".join(dict.fromkeys(halves[side] for side, _ in self.held)) or "nothing"
            raise UsageError(f"{command} needs the whole model; this machine has {there} of {self.network.name}")

    def half(self, side: str, cut: Cut) -> bytes:
        """Return the "front" or "back" half of the graph for a cut, as an ONNX file.

        GradfecError if it is not here, or is not what was added.
        """
        name = f"{side}-{cut.id}"
        if name in self.said["files"]:
            path = self.folder / f"{name}.onnx"
            if path.is_file():
                return self._verified(path, self.said["files"][name])
        if not self.is_whole:
            raise GradfecError(self._missing(side, cut))
        from gradfec_host.models.halves import cut_half

        return cut_half(self.whole(), side, cut)

    def whole(self) -> bytes:
        """Return the whole graph, as an ONNX file; GradfecError as for `half`."""
        if not self.is_whole:
            raise GradfecError(f"{self.network.name} is here only in part, not the whole graph: add its ONNX file here")
        return self._verified(self.folder / WHOLE, self.said["files"].get("model", "nothing"))

    def _verified(self, path: Path, sha256: str) -> bytes:
        try:
            data = read_short(path, MAX_ONNX_BYTES)
        except OSError as error:
            raise GradfecError(f"cannot read {path}: {error.strerror or error}") from None
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise GradfecError(
                f"{path} is not what was added: its SHA-256 is {found[:12]}..., not {sha256[:12]}...; "
                "add the model again"
            )
        return data

    def _missing(self, side: str, cut: Cut) -> str:
        name = self.network.name
        there = ", ".join(f"the {held} of {one.name}" for held, one in self.held) or "nothing of it"
        half = "edge" if side == FRONT else "cloud"
        return (
            f"the {side} of {name} at {cut.name} is not here, only {there}: where the whole model is, run "
            f"gradfec model export {name} --half {half} --split {cut.name} --out FOLDER"
        )


def _hashes(said: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each file; ValueError if a manifest says something else."""
    if not all(isinstance(sha256, str) for sha256 in said.values()):
        raise ValueError("no hash of a file")
    return dict(said)


def _damaged(folder: Path, why: str) -> GradfecError:
    return GradfecError(f"the model in {folder} is damaged, or from another version of gradfec ({why}): add it again")


@lru_cache(16)
def _opened(folder: Path, changed_ns: int) -> Model:
    return Model.read(folder, folder.name)  # which a person may have copied under another name


def open_model(name: str) -> Model:
    """Return the model of that name; GradfecError if it cannot be read. Its network is one object, however often."""
    folder = models_folder() / name
    try:
        changed_ns = (folder / MANIFEST).stat().st_mtime_ns
    except OSError as error:
        raise GradfecError(f"cannot read the model {name} in {folder}: {error.strerror or error}") from None
    return _opened(folder, changed_ns)


def write_model(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Model:
    """Write a model's folder, replacing what is there, completely or not at all; GradfecError if that fails."""
    partial, before = (folder.with_name(f".{folder.name}.{state}") for state in ("part", "before"))
    try:
        for left in (partial, before):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, data in files.items():
            (partial / name).write_bytes(data)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        model = Model.read(partial)
        if folder.exists():
            folder.rename(before)
        partial.rename(folder)
    except OSError as error:
        if before.exists():
            before.rename(folder)
        raise GradfecError(f"cannot write {folder}: {error.strerror or error}") from None
    finally:
        for left in (partial, before):
            shutil.rmtree(left, ignore_errors=True)
    return replace(model, folder=folder)


def remove_model(name: str) -> Path:
    """Delete a model's folder and return it; UsageError if there is none, GradfecError if that fails."""
    if name not in added():
        there = ", ".join(added()) or "none"
        raise UsageError(f"no model {name!r} was added: there is {there}")
    folder = models_folder() / name
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise GradfecError(f"cannot remove {folder}: {error.strerror or error}") from None
    return folder


def export_half(model: Model, side: str, cut: Cut, out: Path, also: Sequence[Cut] = ()) -> int:
    """Write a folder with one half of a model, for a cut and `also` for others; return the bytes of all files.

    What was learned for the cut goes with it. UsageError if the folder exists.
    """
    if out.exists():
        raise UsageError(f"{out} exists: choose another --out")
    halves = {f"{side}-{one.id}": model.half(side, one) for one in (cut, *also)}
    said = {
        **model.said,
        "split": cut.name,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in halves.items()},
    }
    files = {f"{name}.onnx": data for name, data in halves.items()} | _learned(model.folder, cut)
    write_model(out.resolve(), said, files)
    return sum(map(len, files.values()))


def _learned(folder: Path, cut: Cut) -> dict[str, bytes]:
    """Return the files of what was learned for a cut, by their names."""
    found = [learned_file(folder, cut), codec_path(folder, cut)]
    return {path.name: path.read_bytes() for path in found if path.is_file()}


def take_folder(source: Path, name: str) -> Model:
    """Add a folder that `export_half` has written, under a name; GradfecError if it is damaged."""
    model = Model.read(source)
    files: dict[str, bytes] = {}
    for side, cut in model.held:
        files[f"{side}-{cut.id}.onnx"] = model.half(side, cut)
        read_learned(source, cut)  # fail now if it is damaged
        files |= _learned(source, cut)
    if model.is_whole:
        files[WHOLE] = model.whole()
    if not files:
        raise GradfecError(f"{source} has a manifest, and no half of the model: export it again")
    return write_model(models_folder() / name, {**model.said, "name": name}, files)
