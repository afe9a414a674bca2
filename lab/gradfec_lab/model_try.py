"""`gradfec model try`: a model through the real daemons over a bad link, compared with the whole network."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np

from gradfec_cli.daemons import daemon, free_port
from gradfec_cli.experiment import Link, Record, injector
from gradfec_cli.quantities import percentage
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.heads import Answer, agreement
from gradfec_common.networks.pixels import normalise
from gradfec_common.preprocess import seen_share, to_input
from gradfec_host.codec_file import SUFFIX
from gradfec_host.completion import added_models, completing
from gradfec_host.console import Number, plain_errors
from gradfec_host.extras import need
from gradfec_host.models.find import cut_called, imported_called
from gradfec_host.models.store import Model, open_model
from gradfec_lab.model_check import answer_of, no_use, truth_of, whole_of
from gradfec_lab.photographs import Photographs
from gradfec_lab.recorded import recorded_answer
from gradfec_lab.sweep.daemons import link_images

COUNT = 20
MINE = ("--camera", "--cloud", "--model", "--results")  # options of the edge that are not the user's to give


@click.command("try", context_settings={"ignore_unknown_options": True})
@click.argument("name", shell_complete=completing(added_models))
@click.argument("edge_options", nargs=-1, type=click.UNPROCESSED)
@click.option("--images", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of photographs.")
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="CSV", help="Their class indices: FILE,CLASS_INDEX a line."
)
@click.option("--count", default=COUNT, show_default=True, type=click.IntRange(1), help="How many photographs to send.")
@click.option("--loss", default="0", type=percentage, metavar="SHARE", help="Share of the datagrams to lose.")
@click.option("--burst", type=Number(min=1), metavar="N", help="Lose datagrams in bursts of N on average.")
@click.option("--fps", default=5.0, show_default=True, type=Number(min=0, min_open=True), help="Frames a second.")
@click.option("--seed", default=1, type=click.IntRange(min=0), help="Seed for the losses.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a line.")
@plain_errors
def command(
    name: str,
    edge_options: Sequence[str],
    images: Path,
    labels: Path | None,
    count: int,
    loss: float,
    burst: float | None,
    fps: float,
    seed: int,
    as_json: bool,
) -> None:
    """Send photographs through the real edge, loss injector and cloud, and compare with the whole network's answers.

    The edge takes further options as they are, for example --split, --codec, --protect. Agreement is the share of
    frames with the same first class; for boxes, their F1; a frame without an answer counts as 0.
    """
    need("onnxruntime")
    for option in MINE:
        if any(word.partition("=")[0] == option for word in edge_options):
            raise UsageError(f"{option} is given to the edge already: leave it out")
    network = imported_called(name)
    model = open_model(name)
    model.need_whole("gradfec model try")
    splits = [split for split in named_in(edge_options, "--split") if split != "auto"]
    codecs = [codec for codec in named_in(edge_options, "--codec") if codec.endswith(SUFFIX)]
    for split in splits:
        cut_called(split, name)
    with tempfile.TemporaryDirectory(prefix="gradfec-try-") as folder:
        link_images(images, Path(folder), count)
        truth = truth_of(network, labels, Photographs(Path(folder), network.preprocess).names)
        expected = whole_answers(model, Path(folder))
        options = [*edge_options, "--fps", str(fps)]
        served = {"--split": splits, "--codec": codecs}
        found = summary(sent(name, served, Path(folder), options, Link(loss, burst, seed)), expected, truth)
    click.echo(json.dumps(found) if as_json else in_words(found))


def whole_answers(model: Model, images: Path) -> dict[str, Answer]:
    """Return the whole network's answer for each usable photograph of a folder, in fractions of the photograph."""
    network, whole, found = model.network, whole_of(model), dict[str, Answer]()
    photographs = Photographs(images, network.preprocess)
    for name in photographs.names:
        frame = photographs.picture(name)
        if frame is not None:
            fed = normalise(to_input(frame, network.preprocess)[np.newaxis], network.preprocess)
            seen = seen_share(frame, network.preprocess)
            found[name] = answer_of(network, whole(fed)[0]).placed(seen)  # as the edge records it
    if not found:
        raise no_use(photographs)
    return found


def named_in(options: Sequence[str], option: str) -> list[str]:
    """Return what the edge's options name by one of them, which the cloud must serve."""
    behind = [part for before, part in pairwise(options) if before == option]
    behind += [part.removeprefix(f"{option}=") for part in options if part.startswith(f"{option}=")]
    return [*dict.fromkeys(behind)]


def sent(
    name: str, served: Mapping[str, Sequence[str]], images: Path, options: Sequence[str], link: Link
) -> list[Record]:
    """Run cloud, injector and edge, and return the edge's records; GradfecError if there are none."""
    port = free_port()
    serve = ["--model", name]
    for option, names in served.items():
        serve += [option, ",".join(names)] if names else []
    with ExitStack() as stack:
        stack.enter_context(daemon("gradfec-cloud", "--listen", f"127.0.0.1:{port}", *serve, ready="listening on"))
        _, port = stack.enter_context(injector(link, port))
        where = ["--camera", str(images), "--cloud", f"127.0.0.1:{port}", "--model", name, "--results", "-"]
        edge = stack.enter_context(daemon("gradfec-edge", *where, *options))
        records = [json.loads(line) for line in edge.lines()]
        if edge.process.wait():
            raise edge.failure()
    if not records:
        raise GradfecError("gradfec-edge has sent no frame")
    return records


def summary(records: Sequence[Record], expected: dict[str, Answer], truth: Mapping[str, int] | None) -> dict[str, Any]:
    """Return what people want to know of a run."""
    answered = [record for record in records if record["outcome"] in ("complete", "partial")]
    lost = sum(record["datagrams"]["lost"] or 0 for record in answered)
    same = [agreement(expected[record["source"]], recorded_answer(record)) for record in answered]
    right = [record["top5"][0]["class_index"] == truth[record["source"]] for record in answered] if truth else []
    times = [record["latency_ms"] for record in answered]
    p50, p95 = np.percentile(times, (50, 95)).round(1).tolist() if times else (None, None)
    return {
        "frames": len(records),
        "answered": len(answered),
        "agreement": sum(same) / len(records),
        **({"top1": sum(right) / len(records)} if truth else {}),
        "bytes": round(fmean(record["bytes"] for record in records)),
        "lost": lost / max(sum(record["datagrams"]["sent"] for record in answered), 1),
        "codecs": dict(Counter(record["codec"] for record in records).most_common()),  # frames by codec
        "latency_ms": {"p50": p50, "p95": p95},
    }


def in_words(found: dict[str, Any]) -> str:
    """Return a summary in one line."""
    top1 = f", top-1 {found['top1']:.1%}" if "top1" in found else ""
    times = found["latency_ms"]
    codecs = found["codecs"]
    coded = next(iter(codecs)) if len(codecs) == 1 else ", ".join(f"{codec} ({n})" for codec, n in codecs.items())
    latency = f", {times['p50']:.0f} ms (p95 {times['p95']:.0f} ms)" if found["answered"] else ""
    return (
        f"{found['answered']} of {found['frames']} frames answered, agreement {found['agreement']:.1%}{top1}, "
        f"{found['bytes'] / 1000:.1f} kB a frame as {coded}, {found['lost']:.0%} lost{latency}"
    )
