"""Images and folders as sources: which frames come, in which order, and what bad files say."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.errors import GradfecError, UsageError
from gradfec_edge import camera, frames
from gradfec_edge.camera import open_source
from gradfec_edge.frames import as_bgr

from .pictures import every_frame, picture, save


def test_a_folder_sends_each_image_once_in_the_order_of_names_and_ends(tmp_path: Path, warnings: list[str]) -> None:
    for name, value in [("b.png", 2), ("a.JPG", 1), ("c.webp", 3), ("d.bmp", 4), ("e.tiff", 5), ("f.jpeg", 6)]:
        save(tmp_path / name, picture(value))
    source = open_source(str(tmp_path), warn=warnings.append)
    assert not source.live and source.interval is None and not source.ended
    taken = every_frame(source)
    assert [frame.source for frame in taken] == ["a.JPG", "b.png", "c.webp", "d.bmp", "e.tiff", "f.jpeg"]
    assert [frame.number for frame in taken] == [0, 1, 2, 3, 4, 5]
    assert [int(frame.image.mean().round()) for frame in taken] == [1, 2, 3, 4, 5, 6]
    assert all(frame.image.shape == (12, 16, 3) and frame.image.dtype == np.uint8 for frame in taken)
    assert source.ended and source.skipped == 0 and warnings == []


def test_a_folder_ignores_hidden_files_other_kinds_of_files_and_folders(tmp_path: Path, warnings: list[str]) -> None:
    save(tmp_path / "one.png", picture(1))
    save(tmp_path / ".hidden.png", picture(2))
    (tmp_path / "labels.csv").write_text("one.png,cat\n")
    (tmp_path / "folder.png").mkdir()
    source = open_source(str(tmp_path), warn=warnings.append)
    assert [frame.source for frame in every_frame(source)] == ["one.png"]
    assert source.skipped == 0 and warnings == []


def test_an_unreadable_image_of_a_folder_is_skipped_counted_and_named(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / "0.png").write_bytes(b"")
    save(tmp_path / "1.png", picture(1))
    (tmp_path / "2.jpg").write_text("not an image")
    (tmp_path / "3.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "4.png")
    save(tmp_path / "5.png", picture(5))
    source = open_source(str(tmp_path), warn=warnings.append)
    assert [(frame.number, frame.source) for frame in every_frame(source)] == [(0, "1.png"), (1, "5.png")]
    assert source.skipped == 4
    for line, name, reason in zip(
        warnings,
        ["0.png", "2.jpg", "3.png", "4.png"],
        ["is empty", "is not an image", "No such file", "is not a file"],
        strict=True,
    ):
        assert name in line and reason in line


def test_a_folder_of_which_no_image_is_readable_is_an_error(tmp_path: Path, warnings: list[str]) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("text")
    with pytest.raises(GradfecError, match=r"none of the 2 images of .* can be read") as caught:
        open_source(str(tmp_path), warn=warnings.append)
    assert caught.value.exit_code == 1 and len(warnings) == 2


def test_a_folder_without_images_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("x")
    with pytest.raises(UsageError, match="has no images"):
        open_source(str(tmp_path))


def test_loop_repeats_a_folder_counts_on_and_warns_of_a_bad_file_once(tmp_path: Path, warnings: list[str]) -> None:
    save(tmp_path / "a.png", picture(1))
    (tmp_path / "b.png").write_text("text")
    save(tmp_path / "c.png", picture(3))
    source = open_source(str(tmp_path), loop=True, warn=warnings.append)
    taken = every_frame(source, at_most=5)
    assert [frame.source for frame in taken] == ["a.png", "c.png", "a.png", "c.png", "a.png"]
    assert [frame.number for frame in taken] == [0, 1, 2, 3, 4]
    assert source.skipped == 1 and len(warnings) == 1


def test_a_looped_folder_that_is_emptied_ends(tmp_path: Path, warnings: list[str]) -> None:
    paths = [save(tmp_path / name, picture(1)) for name in ("a.png", "b.png")]
    source = open_source(str(tmp_path), loop=True, warn=warnings.append)
    for _ in paths:
        assert source.next_frame(0) is not None
    for path in paths:
        path.unlink()
    assert source.next_frame(0) is None and source.ended
    assert source.skipped == 2 and len(warnings) == 2


def test_an_image_is_one_frame_and_with_loop_many(tmp_path: Path) -> None:
    path = save(tmp_path / "photo.png", picture(7))
    assert [frame.source for frame in every_frame(open_source(str(path)))] == ["photo.png"]
    looped = every_frame(open_source(str(path), loop=True), at_most=4)
    assert [(frame.number, frame.source) for frame in looped] == [(n, "photo.png") for n in range(4)]


def test_an_image_is_known_by_its_content_where_its_name_does_not_tell(tmp_path: Path) -> None:
    path = save(tmp_path / "photo.png", picture(7)).rename(tmp_path / "photo")
    assert [frame.source for frame in every_frame(open_source(str(path)))] == ["photo"]


@pytest.mark.parametrize(
    "image",
    [
        np.full((8, 9), 200, np.uint8),
        np.full((8, 9, 4), 200, np.uint8),
        np.full((8, 9), 200 * 257, np.uint16),
        np.full((8, 9, 3), 200 * 257, np.uint16),
        np.full((8, 9, 4), 200 * 257, np.uint16),
    ],
    ids=["grey", "alpha", "grey16", "colour16", "alpha16"],
)
def test_every_depth_and_number_of_channels_becomes_bgr(tmp_path: Path, image: Any) -> None:
    (frame,) = every_frame(open_source(str(save(tmp_path / "a.png", image))))
    assert frame.image.shape == (8, 9, 3) and frame.image.dtype == np.uint8
    assert (frame.image == 200).all()
    assert np.array_equal(as_bgr(image, "camera"), frame.image)


def test_a_file_that_is_no_image_gets_one_line_that_names_it(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "photo.jpg"
    path.write_text("hello")
    with pytest.raises(GradfecError, match=r"photo\.jpg is not an image that can be read") as caught:
        open_source(str(path), warn=warnings.append)
    assert "\n" not in str(caught.value) and warnings == []


@pytest.mark.parametrize("name", ["empty.jpg", "empty.mp4", "empty"])
def test_an_empty_file_is_called_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(GradfecError, match=rf"{name} is empty"):
        open_source(str(tmp_path / name))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(cut=st.integers(1, 10_000), place=st.integers(0, 10_000), junk=st.binary(max_size=40))
def test_a_damaged_image_is_a_picture_or_a_plain_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, cut: int, place: int, junk: bytes
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    data = bytearray(cv2.imencode(suffix, noise)[1].tobytes())
    place %= len(data)
    data[place : place + len(junk)] = junk
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(data[: 1 + cut % len(data)])
    try:
        image = camera.read_image(path)
    except GradfecError as error:
        assert str(path) in str(error)
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


def huge_png(width: int, height: int) -> bytes:
    """Return a few bytes that claim to be a large picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def test_an_image_over_100_megapixels_is_refused_by_name_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(huge_png(12_000, 10_000))
    # In a process of its own, because OpenCV takes its limit when it is first imported.
    code = "import sys; from gradfec_edge.camera import open_source; open_source(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "huge.png is too large: more than 100 megapixels" in done.stderr


def test_a_folder_skips_an_image_that_is_too_large(
    tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_IMAGE_PIXELS", 1000)
    save(tmp_path / "a.png", picture(1, 100, 100))
    save(tmp_path / "b.png", picture(2))
    source = open_source(str(tmp_path), warn=warnings.append)
    assert [frame.source for frame in every_frame(source)] == ["b.png"]
    assert source.skipped == 1 and "a.png is too large" in warnings[0]


def test_an_image_file_of_too_many_bytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "MAX_IMAGE_FILE_BYTES", 10)
    with pytest.raises(GradfecError, match=r"a\.png is too large"):
        open_source(str(save(tmp_path / "a.png", picture(1))))
