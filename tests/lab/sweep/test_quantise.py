"""`gradfec sweep quantise`: the product's quantisers, each with its bits and bytes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.common.small_tensors import OF_PARTS

from gradfec_cli.cli import main
from gradfec_common.conceal import make_concealment
from gradfec_common.delivery import tensor_at_hand
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_lab.photographs import Photographs

from .toys import ToyModel, ToyScores, install, write_images

CUT = named_cut(DEFAULT_CUT)
GRID = PacketGrid(CUT.shape)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 3)
    return tmp_path / "images"


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", "quantise", *map(str, arguments)])


def test_json_says_agreement_bits_and_bytes_by_quantiser(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    out = tmp_path / "out"
    done = sweep("--images", images, "--out", out, "--quantisers", "uniform8,sqrt2", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["agreement"].keys() == found["ci"].keys() == {"uniform8", "sqrt2"}
    assert found["agreement"]["uniform8"] == 1
    assert found["bits_an_element"] == {"uniform8": 8, "sqrt2": 2}
    assert found["bytes_a_tensor"] == {"uniform8": 802_816, "sqrt2": 200_704}
    assert (out / "quantise.png").read_bytes().startswith(b"\x89PNG")
    assert "| sqrt2 | 2 | 200,704 |" in (out / "quantise.md").read_text()
    assert [row["quantiser"] for row in csv.DictReader((out / "quantise.csv").open())] == ["uniform8", "sqrt2"]


def test_by_default_all_quantisers_that_fit_the_cut_are_asked(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    rectified = json.loads(sweep("--images", images, "--json").stdout)
    assert {*rectified["agreement"]} == {*OF_PARTS}
    other = json.loads(sweep("--images", images, "--split", "conv1_conv", "--json").stdout)
    assert {*other["agreement"]} == {name for name in OF_PARTS if not name.startswith("sqrt")}


def test_the_answers_are_those_to_what_the_quantiser_makes_of_the_features(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ToyModel(0.01)
    install(monkeypatch, model)
    assert sweep("--images", images, "--out", tmp_path / "out").exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    photographs, zero = Photographs(images, RESNET50.preprocess), make_concealment("zero", CUT, {})
    for line in lines:
        image = photographs.read(line["image"])
        assert image is not None
        chi = ToyScores([], GRID)(image[None], [line["image"]])[0][0]
        for name, quantiser in OF_PARTS.items():
            coded = quantiser.encode(chi, GRID)
            back = tensor_at_hand(coded, np.ones(GRID.count, bool), quantiser, zero, GRID)
            assert line["answers"][name] == [int(model(back[None])[0])]


def test_an_unknown_quantiser_is_named_in_one_line(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = install(monkeypatch)
    for options in (["--quantisers", "uniform3"], ["--quantisers", "sqrt4", "--split", "conv1_conv"]):
        done = sweep("--images", images, *options)
        assert done.exit_code == 2
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert options[1] in done.stderr and "uniform8" in done.stderr
    assert not made
