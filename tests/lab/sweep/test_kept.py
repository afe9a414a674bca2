"""`gradfec sweep kept`: answers against the share of a bottleneck's bytes that is kept, for each ranking."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.untrained import write_codec

from gradfec_cli.cli import main
from gradfec_common.networks import Cut
from gradfec_common.packets import PacketGrid
from gradfec_edge.importance.free import draws_for
from gradfec_lab.sweep import kept
from gradfec_lab.sweep.kept import Scores, first_bytes

from .toy_ends import install
from .toys import write_images

GRID = PacketGrid((14, 14, 4), 7)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 3, lambda rng: rng.integers(0, 255, (224, 224, 3)))
    return tmp_path / "images"


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", "kept", *map(str, arguments)])


def test_the_first_bytes_are_those_of_the_most_important_packets() -> None:
    scores = np.array([1, 4, 3, 2], np.float32)
    sizes = np.array([10, 50, 20, 20])
    assert first_bytes(scores, sizes, 0.49).tolist() == [False] * 4
    assert first_bytes(scores, sizes, 0.5).tolist() == [False, True, False, False]
    assert first_bytes(scores, sizes, 0.7).tolist() == [False, True, True, False]
    assert first_bytes(scores, sizes, 1).tolist() == [True] * 4


def test_a_packet_without_bytes_is_never_kept() -> None:
    assert first_bytes(np.ones(3, np.float32), np.array([0, 5, 0]), 1).tolist() == [False, True, False]


def test_a_random_ranking_depends_on_the_images_name_and_the_seed() -> None:
    assert draws_for(1, "a.png", GRID).tolist() == draws_for(1, "a.png", GRID).tolist()
    assert draws_for(1, "a.png", GRID).tolist() != draws_for(1, "b.png", GRID).tolist()
    assert draws_for(1, "a.png", GRID).tolist() != draws_for(2, "a.png", GRID).tolist()


def test_answers_by_ranking_and_share_in_json_csv_table_and_figure(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = install(monkeypatch)
    out, file = tmp_path / "out", write_codec(tmp_path / "codec.npz")

    def oracle(cut: Cut, grid: PacketGrid) -> Scores:
        return lambda image, chi: np.arange(grid.count, dtype=np.float32)

    monkeypatch.setattr(kept, "load_oracle", oracle)
    options = ("--images", images, "--codec", file, "--estimators", "gradcam,energy,order,random", "--kept", "0.5,1")
    done = sweep(*options, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["images"] == 3
    assert found["agreement"].keys() == {"gradcam", "energy", "order", "random"}
    assert {*found["agreement"]["gradcam"]} == {"0.5", "1"}
    whole = [shares["1"] for shares in found["agreement"].values()]
    assert whole == [whole[0]] * 4  # all packets, whatever their ranking
    assert {ends.asked for ends in made} == {3, 3 * 4 * 2}
    assert (out / "kept.png").read_bytes().startswith(b"\x89PNG")
    assert "| energy |" in (out / "kept.md").read_text()
    assert json.loads(sweep(*options, "--out", out, "--json").stdout)["agreement"] == found["agreement"]
    assert len(made) == 2  # nothing was loaded again


def test_an_unknown_ranking_is_named_in_one_line(images: Path, tmp_path: Path) -> None:
    done = sweep("--images", images, "--codec", write_codec(tmp_path / "codec.npz"), "--estimators", "luck")
    assert done.exit_code == 2 and "luck" in done.stderr and done.stderr.count("\n") == 1
