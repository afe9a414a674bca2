"""A sweep's point and the same point through the real daemons and the injector agree.

GRADFEC_IMAGES=FOLDER takes the first 200 images of a folder of yours in place of scikit-image's six:
`GRADFEC_IMAGES=photos make test ARGS="-s tests/integration/test_sweep.py"`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_cli.daemons import daemon, free_port
from gradfec_cli.experiment import Link, Run, coding_options, run_with_own_cloud, top1
from gradfec_common.packets import PacketGrid
from gradfec_lab.sweep.daemons import link_images

from .stubbed import stubbed

IMAGES = 200
TOYS = 60
LOSS = 0.24  # a tensor of one group (256, 192) decodes from 76 % of its symbols: now and then


class ToyScores:
    """The features of the toy daemons, scored by `activation`."""

    def __init__(self, grid: PacketGrid) -> None:
        self.grid = grid
        self.fingerprints: dict[str, str] = {}

    def __call__(self, images, names, classes=None):
        chi = np.stack([np.resize(image, self.grid.shape).astype(np.float32) - 100 for image in images])
        return chi, {"activation": np.stack([self.grid.split(np.maximum(one, 0)).sum(axis=1) for one in chi])}, {}


def toy_model(chi: np.ndarray) -> np.ndarray:
    """The class that the toy back-end is sure of."""
    return np.abs(chi).mean(axis=(1, 2, 3)).astype(np.intp)


def write_images(folder: Path) -> dict[str, int]:
    """Write images whose features are one value, or zero in a quarter of the packets, which are the first to drop.

    The toy's tensor is the image from its first byte on: of (56, 56, 64) the second quarter of the rows is the image's
    second third. Returns the class of each.
    """
    folder.mkdir()
    rng = np.random.default_rng(1)
    quarter = 14 * 56 * 64
    reference = {}
    for number in range(TOYS):
        value = 34 + 4 * int(rng.integers(20))
        pixels = np.full(3 * quarter, 100 + value, np.uint8)
        pixels[quarter : 2 * quarter] = 100
        cv2.imwrite(str(folder / f"{number:03}.png"), pixels.reshape(224, 224, 3))
        reference[f"{number:03}.png"] = value * 3 // 4
    return reference


def swept(*arguments: object) -> dict:
    done = CliRunner().invoke(main, ["sweep", "protection", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_sweeps_point_is_what_toy_daemons_give_over_the_injector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    reference = write_images(images)

    def load(estimators, split, grid, seed):
        return ToyScores(grid), toy_model, "toy weights"

    monkeypatch.setattr("gradfec_lab.sweep.study.load_network", load)
    found = swept(
        *("--images", images, "--protect", "FEC_25_75", "--loss", f"0,{LOSS}", "--importance", "activation"),
        *("--split", "pool1_pool", "--rows", 14, "--repetitions", 20, "--fec", "zfec:256"),
    )
    point = found["agreement"]["FEC_25_75"]["zero"]
    assert point["0"] == 1
    assert 0.3 < point[f"{LOSS}"] < 0.95  # a point that says something
    cloud_port, port = free_port(), free_port()
    link = Link(LOSS, seed=3)
    with (
        stubbed("gradfec-cloud", "--listen", f"127.0.0.1:{cloud_port}", "--deadline-ms", 300),
        daemon(
            *("gradfec-netem", "--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{cloud_port}", *link.options()),
            ready="listening on",
        ),
        stubbed(
            *("gradfec-edge", "--camera", images, "--cloud", f"127.0.0.1:{port}", "--results", "-"),
            *("--protect", "FEC_25_75", "--fec", "zfec:256", "--importance", "activation"),
        ) as edge,
    ):
        records = [json.loads(line) for line in edge.lines()]
    assert len(records) == TOYS
    daemons = np.mean([top1(record) == reference[record["source"]] for record in records])
    error = np.sqrt(point[f"{LOSS}"] * (1 - point[f"{LOSS}"]) / TOYS)
    assert abs(daemons - point[f"{LOSS}"]) < 3.3 * error  # 99.9 %, of which the sweep's own 1,200 tensors are little
    for record in records:
        if record["outcome"] == "complete":
            assert top1(record) == reference[record["source"]]


@pytest.mark.daemons
@pytest.mark.slow
def test_a_sweeps_point_is_what_the_real_daemons_answer_over_the_injector(
    photographs: Path, tmp_path: Path, lossy_link: Link, request: pytest.FixtureRequest
) -> None:
    yours = os.environ.get("GRADFEC_IMAGES")
    link = Link(0.4, seed=1) if yours else lossy_link
    loss = str(link.loss)
    folder = tmp_path / "images"
    folder.mkdir()
    count = link_images(Path(yours or photographs), folder, IMAGES)
    options = ("--protect", "FEC_50_50", "--importance", "activation")
    edge_options = [*coding_options("FEC_50_50", "zfec", "uniform8", 1), "--importance", "activation"]
    found = swept("--images", folder, *options, "--loss", f"0,{loss}", "--repetitions", 1, "--out", tmp_path / "out")
    share = found["agreement"]["FEC_50_50"]["zero"][loss]
    low, high = found["ci"]["FEC_50_50"]["zero"][loss]
    lines = map(json.loads, (tmp_path / "out" / "answers.jsonl").read_text().splitlines())
    answers = {line["image"]: line["answers"] for line in lines}
    run: Run = (run_with_own_cloud(folder, link, edge_options) if yours else request.getfixturevalue("lossy_run"))[0]
    assert len(run.records) == count
    daemons = run.agreement({name: given["reference"][0] for name, given in answers.items()})
    print(f"\n{count} images, FEC_50_50 at {link.loss:.0%}:")
    print(f"sweep {share:.1%} ({low:.1%} to {high:.1%}), daemons {daemons:.1%}")
    assert low <= daemons <= high
    complete = [record for record in run.records if record["outcome"] == "complete"]
    assert len(complete) > 0.9 * count
    other = [
        r for r in complete if top1(r) != answers[r["source"]]["uniform8/1/zfec/iid/activation/FEC_50_50/zero/0"][0]
    ]
    assert len(other) <= 0.01 * count  # two compilations of one network may differ where two classes all but tie
