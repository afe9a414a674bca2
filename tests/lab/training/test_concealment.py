"""`gradfec train-concealment`: mean and covariance of the channels, in a file that the cloud can use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.lab.sweep.toys import write_images

from gradfec_cli.cli import main
from gradfec_common.conceal.moments import COVARIANCE, MEANS
from gradfec_common.networks import named_cut
from gradfec_edge.frontend import Features
from gradfec_host.concealment_file import cut_of, learned_for
from gradfec_lab.training.moments import Moments

CUT = named_cut("pool1_pool")


def test_moments_are_the_mean_and_the_covariance_over_all_places_of_all_tensors() -> None:
    tensors = np.random.default_rng(1).normal(0.5, 2, (4, 6, 5, 3)).astype(np.float32)
    moments = Moments(3)
    for tensor in tensors:
        moments.add(tensor)
    learned = moments.learned()
    for kind, values in enumerate((tensors, np.maximum(tensors, 0))):
        places = values.reshape(-1, 3)
        np.testing.assert_allclose(learned[MEANS][kind], places.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(learned[COVARIANCE][kind], np.cov(places.T, bias=True), atol=1e-5)
    np.testing.assert_array_equal(learned["means"], learned[MEANS][1])


def test_the_file_has_what_was_learned_of_the_usable_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object) -> object:
        return lambda image: Features(np.resize(image.astype(np.float32), CUT.shape), None)

    monkeypatch.setattr("gradfec_edge.frontend.load_front_end", load)
    monkeypatch.setattr("gradfec_host.codec_file.weights_of", lambda *arguments: None)
    write_images(tmp_path / "images", 3)
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "pool1.npz"
    done = CliRunner().invoke(
        main,
        ["train-concealment", "--images", str(tmp_path / "images"), "--split", CUT.name, "--out", str(out), "--json"],
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] == 3
    assert "skipped: " in done.stderr
    assert cut_of(out) == CUT.name
    learned = learned_for(CUT, [out])
    assert learned.keys() == {"means", MEANS, COVARIANCE}
    assert (learned[MEANS] > 0).all()


def test_a_name_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["train-concealment", "--images", str(tmp_path), "--out", "learned.txt"])
    assert done.exit_code == 2
    assert done.stderr == "error: --out learned.txt must end in .npz\n"
