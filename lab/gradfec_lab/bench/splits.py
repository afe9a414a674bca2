"""`gradfec bench splits`: what each split of a network takes of this machine as an edge."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gradfec_host.console import CONTEXT, plain_errors, runtime_option
from gradfec_lab.bench.measure import in_words, machine
from gradfec_lab.plan.command import images_option, model_option, pictures_of
from gradfec_lab.plan.report import ms
from gradfec_lab.progress import bar
from gradfec_lab.sweep.report import Grid

LIBRARIES = ("ai-edge-litert", "onnxruntime", "numpy")


@click.command(context_settings=CONTEXT)
@model_option
@images_option
@click.option("--limit", default=10, type=click.IntRange(1), help="Use this many photographs, the first by name.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the times to a file, for gradfec plan --edge."
)
@runtime_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def splits(name: str, images: Path, limit: int, out: Path | None, runtime: str, as_json: bool) -> None:
    """Time front-end, importance and coding for each split and codec, on the machine that will be the edge."""
    from gradfec_host.models import network_called
    from gradfec_host.models.find import runtime_for
    from gradfec_lab.plan.candidates import candidates
    from gradfec_lab.plan.edge_file import edge_file
    from gradfec_lab.plan.measure import edge_times, stores_of
    from gradfec_lab.sweep.store import write_file

    described = machine(*LIBRARIES)
    network = network_called(name)
    runtime = runtime_for(runtime, [network])
    pictures = pictures_of(network, images, limit)
    found = [*candidates(network)]
    stores = stores_of(found)
    with bar("measuring", len(found) * len(pictures)) as advance:
        seconds = edge_times(found, pictures, runtime, stores, advance)
    said = edge_file(network, found, seconds, described)
    if out:
        write_file(out, json.dumps(said, indent=1).encode())
    if as_json:
        click.echo(json.dumps(said))
        return
    click.echo(in_words(described))
    lines = [[way["cut"], way["codec"], str(way["quality"] or ""), ms(way["edge_s"])] for way in said["ways"]]
    Grid(f"{network.title}: time at the edge", ["split", "codec", "quality", "ms"], lines, names=3).show()
