"""From an ONNX file to a model's manifest and files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradfec_common.errors import UsageError
from gradfec_common.heads import HEADS
from gradfec_common.networks import Preprocess
from gradfec_common.networks.carried import LEAST_SCALE, MAX_ELEMENTS, MOST_SCALE, Carried, apart, common_shape
from gradfec_common.networks.imported import FORMAT, imported_network, manifest_of_carried
from gradfec_common.networks.pixels import normalise
from gradfec_common.packets import PacketGrid, usual_rows
from gradfec_host.models.graph import Graph
from gradfec_host.models.halves import cut_half, part
from gradfec_host.models.session import OnnxSession, run_once
from gradfec_host.models.store import BACK, FRONT, Model, models_folder, write_model

Floats = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]

AT_ONCE = 48  # tensors that are looked at together: all those of a large network would fill the memory
TRIALS = 3  # pictures


@dataclass
class Seen:
    """What a tensor was like for all trial pictures."""

    dims: tuple[int, ...]
    kind: np.dtype[Any]
    largest: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """What the user says of a model; if `split`, or `head`, a name or NAME:LAYOUT, is None, it is guessed."""

    name: str
    preprocess: Preprocess
    labels: tuple[str, ...] = ()
    head: str | None = None
    outputs: tuple[str, ...] = ()
    split: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)  # of a detector


def add_model(path: Path, graph: Graph, wanted: Wanted) -> Model:
    """Examine a graph and write its folder; UsageError if it cannot be run, or cut as the user wants."""
    pictures = trial_pictures(wanted.preprocess.size)
    with np.errstate(over="ignore"):
        inputs = [apart((graph.fed,), normalise(picture, wanted.preprocess))[0] for picture in pictures]
    if not all(np.isfinite(fed).all() for fed in inputs):
        raise UsageError(f"{path}: the input is not finite after --mean and --std: give others")
    outputs = chosen_outputs(graph, wanted.outputs)
    answers = run_once(part(graph.proto, (graph.fed,), outputs), path.name, inputs[:1])
    cuts = found_cuts(graph, inputs, path.name)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "name": wanted.name,
        "file": {"sha256": graph.sha256, "bytes": graph.bytes},
        "opset": {one.domain or "ai.onnx": one.version for one in graph.proto.opset_import},
        "input": manifest_of_carried(graph.fed),
        "preprocess": asdict(wanted.preprocess),
        "outputs": [{"name": name, "dims": list(answer.shape)} for name, answer in zip(outputs, answers, strict=True)],
        "head": described_head(wanted, outputs, answers),
        "labels": list(wanted.labels),
        "cuts": cuts,
        "files": {},
    }
    manifest["split"] = wanted.split or usual_split(manifest)
    return stored(models_folder() / wanted.name, manifest, graph.proto.SerializeToString())


def stored(folder: Path, manifest: dict[str, Any], whole: bytes) -> Model:
    """Write a model's folder with both halves of its default cut; UsageError if the manifest contradicts itself."""
    try:
        cut = imported_network(manifest).usual_cut
    except ValueError as error:
        raise UsageError(f"{manifest['name']}: {error}") from None
    files = {"model": whole, **{f"{side}-{cut.id}": cut_half(whole, side, cut) for side in (FRONT, BACK)}}
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return write_model(folder, manifest, {f"{name}.onnx": data for name, data in files.items()})


def trial_pictures(size: tuple[int, int]) -> Iterator[Picture]:
    """Yield pictures of coarse and fine blocks of all colours, to see what a network's tensors are like."""
    rng = np.random.default_rng(0)
    for number in range(TRIALS):
        blocks = rng.integers(0, 256, (4 << 2 * number, 4 << 2 * number, 3), np.uint8)
        rows, columns = (np.arange(side) * len(blocks) // side for side in size)
        yield blocks[rows][:, columns]


def found_cuts(graph: Graph, inputs: Sequence[Floats], name: str) -> list[dict[str, Any]]:
    """Return the manifest's cuts: the places where what crosses are a few float32 tensors that fit together."""
    frontiers = graph.frontiers()
    seen = looked_at(graph, [*dict.fromkeys(tensor for frontier in frontiers for tensor in frontier)], inputs, name)
    layouts, found = graph.layouts(), []
    for frontier in frontiers:
        carried = [_carried(tensor, seen[tensor], layouts.get(tensor, "nchw")) for tensor in frontier]
        there = [one for one in carried if one is not None]
        shape = common_shape(there) if len(there) == len(frontier) else None
        if shape is None or not _has_packets(shape):
            continue
        if len(there) == 1:
            alone = replace(there[0], scale=1.0)  # it shares its levels with no other
            pooled = len(alone.dims) == 4 and math.prod(alone.dims) == max(alone.dims)
            there = [replace(alone, layout="pooled") if pooled else alone]  # otherwise a packet would be one element
        rectified = all(map(graph.never_negative, frontier))
        found.append({"tensors": [manifest_of_carried(one) for one in there], "rectified": rectified})
    return found


def looked_at(graph: Graph, names: Sequence[str], inputs: Sequence[Floats], name: str) -> dict[str, Seen]:
    """Run the graph, and return what each of the tensors is like."""
    seen: dict[str, Seen] = {}
    for first in range(0, len(names), AT_ONCE):
        some = names[first : first + AT_ONCE]
        session = OnnxSession(part(graph.proto, (graph.fed,), some), name)
        for fed in inputs:
            for tensor, found in zip(some, session(fed), strict=True):
                one = seen.setdefault(tensor, Seen(np.shape(found), np.asarray(found).dtype))
                if one.kind == np.float32 and found.size:
                    finite = np.isfinite(found).all()
                    one.largest = max(one.largest, float(np.abs(found).max()) if finite else math.inf)
    return seen


def chosen_outputs(graph: Graph, wanted: Sequence[str]) -> list[str]:
    """Return the outputs to answer with: the user's or all; UsageError if one does not exist."""
    for name in wanted:
        if name not in graph.outputs:
            raise UsageError(f"there is no output {name!r}: the outputs are {', '.join(graph.outputs)}")
    return [*wanted] or graph.outputs


def described_head(wanted: Wanted, outputs: Sequence[str], answers: Sequence[Floats]) -> dict[str, Any]:
    """Return what the manifest says of the head, the user's or a guess; UsageError if it is not for such outputs."""
    named = [(name, answer.shape) for name, answer in zip(outputs, answers, strict=True)]
    name, _, layout = (wanted.head or "").partition(":")
    if name and name not in HEADS:
        raise UsageError(f"no head is called {name!r}: use one of {', '.join(HEADS)}")
    if layout and layout not in HEADS[name].layouts:
        there = ", ".join(HEADS[name].layouts) or "none"
        raise UsageError(f"{name} has no layout {layout!r}: there is {there}")
    why = ""
    for kind in [name] if name else HEADS:
        said = HEADS[kind].describe(named, answers, wanted.preprocess.size, layout)
        if not isinstance(said, str):
            return {"name": kind, **with_thresholds(kind, said, wanted.thresholds)}
        why = said
    shapes = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in named)
    raise UsageError(f"{wanted.name} has the outputs {shapes}: {why}; choose some with --outputs")


def with_thresholds(kind: str, said: dict[str, Any], wanted: Mapping[str, float]) -> dict[str, Any]:
    """Return a head's description with the user's thresholds; UsageError if such a head has none."""
    for name in wanted:
        if name not in said:
            raise UsageError(f"--{name} is for detectors, and this network's head is {kind}")
    return {**said, **wanted}


def usual_split(manifest: Mapping[str, Any]) -> str:
    """Return the default cut: in the first half, the earliest one that few enough elements cross.

    Few enough is a quarter of the picture's elements, or else the fewest that there are. If the input is the only cut,
    it is that.
    """
    cuts = manifest["cuts"]
    sizes = [sum(math.prod(one["dims"]) for one in cut["tensors"]) for cut in cuts]
    early = range(1, max(len(cuts) // 2, 2))[: len(cuts) - 1]
    small = [at for at in early if 4 * sizes[at] <= sizes[0]]
    at = small[0] if small else min(early, key=lambda at: sizes[at], default=0)
    return "+".join(str(one["name"]) for one in cuts[at]["tensors"])


def _carried(name: str, seen: Seen, layout: str) -> Carried | None:
    """Return how a tensor is carried, or None if it cannot be."""
    layouts = {4: layout, 3: "tokens", 2: "vector"}
    if seen.kind != np.float32 or len(seen.dims) not in layouts or seen.dims[0] != 1 or min(seen.dims) < 1:
        return None
    if not math.isfinite(seen.largest) or math.prod(seen.dims) > MAX_ELEMENTS:
        return None
    # A power of two, because the digest has it: two machines that add the same file must find the same.
    scale = 2.0 ** math.ceil(math.log2(seen.largest)) if seen.largest else 1.0
    scale = min(max(scale, LEAST_SCALE), MOST_SCALE)
    return Carried(name, seen.dims, layouts[len(seen.dims)], scale)


def _has_packets(shape: tuple[int, int, int]) -> bool:
    try:
        PacketGrid(shape, usual_rows(shape))
    except UsageError:
        return False
    return True
