"""A folder of photographs: what cannot be used is skipped, counted and named, and never ends a long run."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gradfec_common.errors import UsageError
from gradfec_common.networks.resnet50 import PREPROCESS
from gradfec_common.preprocess import to_input
from gradfec_lab.photographs import MIN_SIDE, Photographs

GOOD = ("a.png", "c.PNG", "f.jpg", "g.bmp", "i.png")
REASONS = {
    "b.png": "not an image that can be read",
    "d.png": f"31x500 pixels: it needs at least {MIN_SIDE} a side",
    "e.jpg": "not a file",
    "h.png": "is empty",
    "j.png": "not an image that can be read",
}


def picture(seed: int, height: int = 60, width: int = 90) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five good images among what is none: text, a strip, a folder, nothing, half a file, a hidden one, a note."""
    for seed, name in enumerate(GOOD):
        cv2.imwrite(str(tmp_path / name), picture(seed))
    (tmp_path / "b.png").write_text("not an image")
    cv2.imwrite(str(tmp_path / "d.png"), picture(9, 500, 31))
    (tmp_path / "e.jpg").mkdir()
    (tmp_path / "h.png").touch()
    (tmp_path / "j.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    cv2.imwrite(str(tmp_path / ".hidden.png"), picture(9))
    (tmp_path / "README.txt").write_text("a note")
    return tmp_path


def test_what_cannot_be_used_is_skipped_with_its_name_and_why(folder: Path) -> None:
    photographs = Photographs(folder, PREPROCESS)
    seen = [name for names, _ in photographs.batches(photographs.names, 2) for name in names]
    assert seen == [*GOOD]
    assert photographs.skipped.keys() == REASONS.keys()
    for name, reason in REASONS.items():
        assert reason in photographs.skipped[name]
        assert str(folder / name) in photographs.skipped[name]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 50])
def test_batches_are_full_but_for_the_last_whatever_is_skipped_between(folder: Path, size: int) -> None:
    photographs = Photographs(folder, PREPROCESS)
    batches = [*photographs.batches(photographs.names, size)]
    lengths = [len(names) for names, _ in batches]
    assert sum(lengths) == 5
    assert all(length == size for length in lengths[:-1])
    for names, inputs in batches:
        assert (inputs.shape, inputs.dtype) == ((len(names), 224, 224, 3), np.uint8)
        for name, image in zip(names, inputs, strict=True):
            np.testing.assert_array_equal(image, photographs.read(name))


def test_an_image_is_what_the_edge_would_feed_the_network(folder: Path) -> None:
    np.testing.assert_array_equal(Photographs(folder, PREPROCESS).read("a.png"), to_input(picture(0), PREPROCESS))


def test_batches_keep_the_order_that_is_asked_for(folder: Path) -> None:
    photographs = Photographs(folder, PREPROCESS)
    asked = ["i.png", "b.png", "a.png", "g.bmp"]
    assert [name for names, _ in photographs.batches(asked, 2) for name in names] == ["i.png", "a.png", "g.bmp"]
    assert photographs.skipped.keys() == {"b.png"}


def test_no_names_make_no_batch_and_neither_do_only_unusable_ones(folder: Path) -> None:
    photographs = Photographs(folder, PREPROCESS)
    assert [*photographs.batches([], 4)] == []
    assert [*photographs.batches([*REASONS], 4)] == []


def test_a_limit_takes_the_first_by_name(folder: Path) -> None:
    assert Photographs(folder, PREPROCESS, 3).names == ["a.png", "b.png", "c.PNG"]
    assert (
        Photographs(folder, PREPROCESS, 1000).names
        == Photographs(folder, PREPROCESS).names
        == sorted([*GOOD, *REASONS])
    )


def test_the_smallest_photograph_has_32_pixels_a_side(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "least.png"), picture(1, MIN_SIDE, MIN_SIDE))
    assert Photographs(tmp_path, PREPROCESS).read("least.png") is not None


def test_no_folder_a_file_and_a_folder_without_images_are_refused(folder: Path, tmp_path: Path) -> None:
    for nothing in (tmp_path / "missing", folder / "a.png"):
        with pytest.raises(UsageError, match=f"{nothing.name} is not a folder: --images takes a folder of images"):
            Photographs(nothing, PREPROCESS)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "note.txt").touch()
    with pytest.raises(UsageError, match=r"empty has no images \(bmp jpeg jpg png tif tiff webp\)"):
        Photographs(tmp_path / "empty", PREPROCESS)


def test_an_image_that_goes_between_listing_and_reading_is_skipped(folder: Path) -> None:
    photographs = Photographs(folder, PREPROCESS)
    (folder / "a.png").unlink()
    assert photographs.read("a.png") is None
    assert "cannot read" in photographs.skipped["a.png"]
