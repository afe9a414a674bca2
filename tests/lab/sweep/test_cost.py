"""`gradfec sweep cost` times the front-end with each estimator that is shipped, and says what each weighs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_edge.importance import ESTIMATORS
from gradfec_edge.importance.shipped import PROXIES, shipped


class ToyFrontEnd:
    def __init__(self, runtime, split, weights, proxy=None):
        self.shape, self.ranks = split.shape, proxy is not None

    def __call__(self, image):
        from gradfec_edge.frontend import Features

        chi = np.resize(image, self.shape).astype(np.float32)
        if not self.ranks:
            return Features(chi)
        return Features(chi, np.arange(2048, dtype=np.float32), np.tile(np.eye(256, dtype=np.float32), (8, 1, 1)))


def test_every_estimator_is_timed_and_weighed(photographs: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gradfec_edge.frontend.load_front_end", ToyFrontEnd)
    result = CliRunner().invoke(main, ["sweep", "cost", "--images", str(photographs), "--limit", "3", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["images"] == 3
    assert [*found["cost"]] == ["none", *ESTIMATORS]
    assert all(row["ms"] > 0 for row in found["cost"].values())
    assert found["cost"]["deviation"]["ms"] > found["cost"]["none"]["ms"]  # it does the same, and more
    assert {name: found["cost"][name]["bytes"] for name in PROXIES} == {
        name: shipped(name).stat().st_size for name in PROXIES
    }


def test_a_folder_without_images_is_one_plain_line(tmp_path: Path):
    result = CliRunner().invoke(main, ["sweep", "cost", "--images", str(tmp_path)])
    assert result.exit_code == 2
    assert "has no images" in result.stderr
