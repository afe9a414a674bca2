"""The learning curves as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from gradfec_host.writing import writing


def draw_curves(checkpoints: Path, path: Path) -> None:
    """Draw loss and held-out loss by epoch from a training's record; GradfecError if the file cannot be written."""
    points = json.loads((checkpoints / "curves.json").read_text())["curves"]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="loss")
    for name, label in (("loss", "training images"), ("held_out", "held out")):
        axes.plot([point["epoch"] for point in points], [point[name] for point in points], "o-", label=label)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with writing(path):
        figure.savefig(path, dpi=150)
