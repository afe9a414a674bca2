"""A small network with a table of splits, between which a link decides: early on a fast one, late on a slow one."""

from __future__ import annotations

from pathlib import Path

from tests.onnx_files import SIDE, classifier, written

from gradfec_common.splits import Conditions, Kept, Wanted, Way
from gradfec_host.models.add import Wanted as Model
from gradfec_host.models.add import add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of
from gradfec_host.split_table import SplitTable, table_path

NAME = "plain"
KEPT = (Kept(0.0, 2000.0, 1.0), Kept(0.3, 4000.0, 1.0))
EARLY = Way("stem", "uniform8", None, 0.001, 0.002, (Kept(0.0, 9000.0, 1.0), Kept(0.3, 14_000.0, 1.0)))
DEEP = Way("deep", "uniform8", None, 0.03, 0.002, KEPT)
LATE = Way("logits", "uniform8", None, 0.06, 0.001, (Kept(0.0, 200.0, 1.0), Kept(0.3, 600.0, 1.0)))
FAST = Conditions(5e7, 0.0, 0.02)


def small_model(folder: Path) -> SplitTable:
    """Add the network to the models of $GRADFEC_HOME, and return its table, which is not saved yet."""
    path = written(classifier(), folder / f"{NAME}.onnx")
    network = add_model(path, Graph.read(path), Model(NAME, preprocess_of("unit", (SIDE, SIDE)))).network
    return SplitTable(network, FAST, Wanted(), (EARLY, DEEP, LATE))


def save(table: SplitTable) -> Path:
    """Put a table where --split auto looks for it."""
    table.write(table_path(table.network))
    return table_path(table.network)
