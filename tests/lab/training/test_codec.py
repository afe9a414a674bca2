"""Training a bottleneck, as far as it needs no PyTorch: refusals, what is missing, how jobs are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from gradfec_common.bottlenecks import BOTTLENECKS
from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_lab.codec.missing import draw_there
from gradfec_lab.photographs import Photographs
from gradfec_lab.training import codec_job
from gradfec_lab.training.codec_command import train_codec
from gradfec_lab.training.codec_job import make_job

CUT = named_cut(DEFAULT_CUT)
COMPACT = BOTTLENECKS["compact"](CUT)


class Ones:
    """Weights that are all ones."""

    def arrays(self, layer: str) -> list[np.ndarray]:
        shapes = CUT.network.by_name[layer].arrays.values()
        return [np.ones(shape, np.float32) if len(shape) == 1 else np.ones(shape[:1], np.float32) for shape in shapes]


@pytest.fixture
def photographs(tmp_path: Path) -> Photographs:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((64, 64, 3), 50 * number, np.uint8))
    return Photographs(folder, CUT.network.preprocess)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--out", "codec.txt"], "must end in .npz"),
        (["--out", "codec.npz", "--bottleneck", "tight"], "no bottleneck is called 'tight': use compact"),
        (["--out", "codec.npz", "--rows", "5"], "5 rows a packet do not divide the 14 rows"),
        (["--out", "codec.npz"], "is not a folder"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(tmp_path: Path, options: list[str], says: str) -> None:
    ended = CliRunner().invoke(train_codec, ["--images", str(tmp_path / "none"), *options])
    assert ended.exit_code == 2 and says in ended.output and "Traceback" not in ended.output


def test_a_job_has_what_the_training_needs_and_is_not_taken_for_another(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_job, "MIN_IMAGES", 3)
    done: list[int] = []
    assert make_job(tmp_path / "job", COMPACT, 7, Ones(), photographs, None, done.append) == len(done) == 4
    said = json.loads((tmp_path / "job" / "job.json").read_text())
    assert (said["cut"], said["joins"], said["rows"]) == (DEFAULT_CUT, "conv3_block4_out", 7)
    assert said["watched"] == [[["conv4_block2_out"]], [["conv4_block6_out"]]]
    assert said["encoder"][-1]["shape"] == [14, 14, 96] and said["decoder"][0]["shape"] == [14, 14, 192]
    images = np.load(tmp_path / "job" / "images.npy")
    assert images.shape == (4, 224, 224, 3) and sorted(images[:, 0, 0, 0].tolist()) == [0, 50, 100, 150]
    assert make_job(tmp_path / "job", COMPACT, 7, Ones(), photographs, None, done.append) == len(done) == 4
    with pytest.raises(UsageError, match="is the job of another training"):
        make_job(tmp_path / "job", COMPACT, 14, Ones(), photographs, None, done.append)
    fewer = 3
    with pytest.raises(UsageError, match=f"has other photographs than {photographs.folder}, or another --limit: "):
        make_job(tmp_path / "job", COMPACT, 7, Ones(), photographs, fewer, done.append)


def test_too_few_images_make_no_job(photographs: Photographs, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4 images are too few: give at least 400"):
        make_job(tmp_path / "job", COMPACT, 7, Ones(), photographs, None, lambda _: pytest.fail("it was read"))
    assert not (tmp_path / "job").exists()


def test_in_training_most_images_are_whole_and_the_others_lack_all_kinds_of_packets() -> None:
    there = draw_there(np.random.default_rng(0), 2000, 96, 2)
    assert there.shape == (2000, 96, 2) and set(np.unique(there)) == {0, 1}
    whole = there.all(axis=(1, 2))
    assert 0.55 < whole.mean() < 0.7
    tails = [image for image in there[~whole] if (np.diff(image.all(axis=1).astype(int)) <= 0).all()]
    assert 0.2 < len(tails) / (~whole).sum() < 0.6  # the first channels are there, the last are not
    assert there[:, 0].mean() > there[:, -1].mean()  # so the first ones learn to matter most
