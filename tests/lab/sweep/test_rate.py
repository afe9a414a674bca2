"""`gradfec sweep rate`: bytes and answers of each codec, through the product's packing and decoding."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from tests.untrained import write_codec

from gradfec_cli.cli import main
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.protect import UNKNOWN_LINK
from gradfec_edge.coding import coding_of
from gradfec_edge.frontend import Features
from gradfec_host.codec_file import CodecFile
from gradfec_host.console import EXIT_INTERRUPTED
from gradfec_lab.photographs import Photographs
from gradfec_lab.sweep.codecs import make_codec
from gradfec_lab.sweep.second_looks import SCORES, second_looks

from .toy_ends import ToyEnds, install
from .toys import write_images

CUT = named_cut(DEFAULT_CUT)
Floats = npt.NDArray[np.float32]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 3, lambda rng: np.full((224, 224, 3), rng.integers(20, 200)))
    return tmp_path / "images"


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", "rate", *map(str, arguments)])


def test_each_codec_has_its_qualities() -> None:
    assert [*make_codec("sqrt", CUT, 7).quantisers] == ["sqrt6", "sqrt5", "sqrt4", "sqrt3", "sqrt2"]
    assert [*make_codec("uniform8", CUT, 7).quantisers] == ["uniform8"]
    assert [*make_codec("jpeg", CUT, 7).quantisers] == [f"jpeg:{q}" for q in (2, 5, 10, 20, 30, 50, 75, 90)]
    assert [*make_codec("webp:20", CUT, 7).quantisers] == ["webp:20"]


def test_a_bottlenecks_settings_are_those_of_the_edge(tmp_path: Path) -> None:
    file = write_codec(tmp_path / "codec.npz")
    codec = make_codec(file, CUT, 7)
    assert [*codec.quantisers] == [f"quality {q}" for q in range(1, 10)]
    for quality in (1, 5, 9):
        assert (
            codec.at(f"quality {quality}").quantiser
            == coding_of(CUT, None, file, "none", "zfec", quality=quality).quantiser
        )


def test_bytes_and_answers_by_codec_in_json_csv_table_and_figure(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = install(monkeypatch)
    labels = tmp_path / "labels.csv"
    labels.write_text("".join(f"{i:03}.png,{i}\n" for i in range(3)))
    out, file = tmp_path / "out", write_codec(tmp_path / "codec.npz")
    done = sweep("--images", images, "--labels", labels, "--out", out, "--codecs", f"{file},uniform8,jpeg", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["images"] == 3 and found["command"] and found["machine"]["cores"]
    assert {codec: len(points) for codec, points in found["rate"].items()} == {file: 9, "uniform8": 1, "jpeg": 8}
    (uniform8,) = found["rate"]["uniform8"]
    assert uniform8["bytes"] == coding_of(CUT, 7, "uniform8", "none", "zfec").check()
    assert uniform8["setting"] == "uniform8"
    fine = found["rate"]["jpeg"][-1]
    assert fine.keys() == {"setting", "bytes", "agreement", "agreement_ci", "top1", "top1_ci"}
    assert fine["agreement"] == 1 and fine["agreement_ci"] == [1, 1]
    steps = [point["bytes"] for point in found["rate"][file]]
    assert steps == sorted(steps) and steps[-1] > 1.5 * steps[0]
    assert len(made) == 3  # the picture's ends answer for the uncut network, too
    assert (out / "rate.png").read_bytes().startswith(b"\x89PNG")
    assert "| jpeg | jpeg:90 |" in (out / "rate.md").read_text()
    assert len([*csv.DictReader((out / "rate.csv").open())]) == 18


def test_the_bytes_are_those_that_the_edge_would_send_without_parity(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    found = json.loads(sweep("--images", images, "--limit", 1, "--codecs", "webp:20", "--json").stdout)
    coding = coding_of(named_cut("input_layer"), None, "webp:20", "none", "zfec")
    image = Photographs(images, RESNET50.preprocess).read("000.png")
    assert image is not None
    chi, scores, _ = ToyEnds(coding).features(image)
    assert scores is not None
    assert found["rate"]["webp:20"][0]["bytes"] == coding.encode(chi, scores, None, UNKNOWN_LINK, map).wire_bytes


def test_a_second_run_asks_only_for_what_is_new(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = install(monkeypatch)
    common = ("--images", images, "--out", tmp_path / "out")
    first = sweep(*common, "--codecs", "webp:20", "--json")
    assert sum(ends.asked for ends in made) == 3 * 2
    assert (
        json.loads(sweep(*common, "--codecs", "webp:20", "--json").stdout)["rate"] == json.loads(first.stdout)["rate"]
    )
    assert len(made) == 1  # nothing was loaded again
    assert sweep(*common, "--codecs", "webp:20,jpeg:20").exit_code == 0
    assert made[-1].asked == 3


def test_an_interrupted_run_keeps_what_is_done_and_resumes(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = install(monkeypatch)
    options = ("--images", images, "--out", tmp_path / "out", "--codecs", "webp:20")
    with monkeypatch.context() as once:
        once.setattr(ToyEnds, "features", interrupt_after(4))  # each image is looked at twice
        done = sweep(*options)
    assert done.exit_code == EXIT_INTERRUPTED
    assert "2 of 3 images are done" in done.stderr and "resumes" in done.stderr
    assert sweep(*options).exit_code == 0
    assert made[-1].asked == 2


def interrupt_after(calls: int) -> Callable[..., Features]:
    """Return ToyEnds.features that is interrupted after so many calls."""
    whole, left = ToyEnds.features, iter(range(calls))

    def features(self: ToyEnds, image: Any) -> Features:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return whole(self, image)

    return features


def test_another_bottleneck_of_the_same_name_needs_another_folder(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    file, common = write_codec(tmp_path / "codec.npz"), ("--images", images, "--out", tmp_path / "out")
    assert sweep(*common, "--limit", 3, "--codecs", file).exit_code == 0
    read = CodecFile.read(file)
    CodecFile(file, {**read.about, "fall": 2.0}, read.arrays).write()
    done = sweep(*common, "--codecs", f"{file},webp:20")
    assert done.exit_code == 2 and "it has changed since" in done.stderr


def test_an_unknown_codec_is_named_in_one_line(images: Path) -> None:
    done = sweep("--images", images, "--codecs", "gif")
    assert done.exit_code == 2 and "gif" in done.stderr and done.stderr.count("\n") == 1


def test_second_looks_cost_a_picture_where_the_first_answer_is_unsure(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = install(monkeypatch)
    found = json.loads(sweep("--images", images, "--codecs", "second-look", "--json").stdout)
    points = found["rate"]["second-look"]
    assert [point["setting"] for point in points] == [f"below {score:g}" for score in SCORES]
    sizes = [point["bytes"] for point in points]
    assert sizes == sorted(sizes)
    assert len(made) == 2  # the picture's ends answer for the uncut network, too
    assert sizes[0] < sizes[-1]


def test_a_sure_answer_costs_only_the_first_look(images: Path) -> None:
    class Sure(ToyEnds):
        def answers(self, tensors: Iterable[Floats]) -> Iterator[tuple[int, float]]:
            return ((7, 0.66) for _ in tensors)

    looks = second_looks(CUT, 7)
    image = Photographs(images, RESNET50.preprocess).read("000.png")
    assert image is not None
    found = looks.look(image, {one.place: Sure(one.coding) for one in looks.codecs})
    first = found["below 0.3"]
    assert first[0] == 7
    assert found["below 0.65"] == first
    pictures = [found[f"below {score:g}"][1] for score in SCORES if score > 0.66]
    assert pictures == sorted(pictures) and pictures[0] > first[1]
