"""Frame sources: which frames come, in which order, and what bad input and failing cameras say."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.errors import GradfecError, UsageError
from gradfec_edge import camera, frames
from gradfec_edge.camera import Frame, Source, open_source
from gradfec_edge.frames import Pace, as_bgr

PATIENCE_S = 30.0  # how long a test waits for a thread before it fails; never waited for when it passes
Picture = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture
def warnings() -> list[str]:
    return []


def picture(value: int, height: int = 12, width: int = 16) -> Picture:
    return np.full((height, width, 3), value, np.uint8)


def save(path: Path, image: Any) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def save_video(path: Path, count: int, rate: float = 10) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
    for number in range(count):
        writer.write(picture(20 * number, 48, 64))
    writer.release()
    return path


def every_frame(source: Source, at_most: int = 1000) -> list[Frame]:
    taken: list[Frame] = []
    while not source.ended and len(taken) < at_most:
        frame = source.next_frame(PATIENCE_S)
        if frame is not None:
            taken.append(frame)
    source.close()
    return taken


# --- images and folders


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


# --- video files


def test_a_video_sends_every_frame_once_numbered_from_one(tmp_path: Path) -> None:
    source = open_source(str(save_video(tmp_path / "clip.avi", 5)))
    assert not source.live and source.interval == pytest.approx(0.1)
    taken = every_frame(source)
    assert [frame.source for frame in taken] == [f"clip.avi#{n}" for n in range(1, 6)]
    assert [frame.number for frame in taken] == [0, 1, 2, 3, 4]
    assert [round(frame.image.mean() / 20) for frame in taken] == [0, 1, 2, 3, 4]


def test_a_looped_video_starts_over_and_counts_on(tmp_path: Path) -> None:
    source = open_source(str(save_video(tmp_path / "clip.avi", 2)), loop=True)
    taken = every_frame(source, at_most=5)
    assert [frame.source.split("#")[1] for frame in taken] == ["1", "2", "1", "2", "1"]
    assert [frame.number for frame in taken] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["a:b.avi", "-", "%03d.avi"])
def test_ffmpeg_takes_odd_file_names_as_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    save_video(tmp_path / "clip.avi", 2).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert [frame.source for frame in every_frame(open_source(name))] == [f"{name}#1", f"{name}#2"]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "notes.txt", "notes"])
def test_a_file_that_is_neither_image_nor_video_gets_one_line(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("hello\n" * 50)
    with pytest.raises(GradfecError, match=rf"{name} is neither an image nor a video") as caught:
        open_source(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # OpenCV and FFmpeg stay silent


def test_a_name_that_is_not_utf8_does_not_crash_opencv(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", picture(1))
    folder = tmp_path / "folder"
    folder.mkdir()
    image.rename(folder / os.fsdecode(b"\xff.png"))
    (frame,) = every_frame(open_source(str(folder)))
    assert frame.source == os.fsdecode(b"\xff.png")
    video = save_video(tmp_path / "clip.avi", 1).rename(tmp_path / os.fsdecode(b"\xff.avi"))
    with pytest.raises(GradfecError, match="not UTF-8"):
        open_source(str(video))


def test_a_closed_video_releases_its_file_and_ends(tmp_path: Path) -> None:
    path = save_video(tmp_path / "clip.avi", 3)
    device = FakeCamera([[picture(1), picture(2), picture(3)]])
    source = open_source(str(path), open_capture=device.open)
    assert source.next_frame(0) is not None
    source.close()
    source.close()
    assert source.ended and source.next_frame(0) is None and device.released == 1


# --- the pace


@settings(derandomize=True)
@given(fps=st.floats(0.5, 60), delays=st.lists(st.floats(0, 3), min_size=1, max_size=50))
def test_the_pace_never_lets_more_than_fps_frames_go_in_a_second(fps: float, delays: list[float]) -> None:
    pace, now, times = Pace(fps), 1000.0, []
    for delay in delays:
        now += delay + pace.wait(now + delay)
        assert pace.wait(now) < 1e-9
        pace.took(now)
        times.append(now)
    for first, start in enumerate(times):
        within = sum(start <= time < start + 1 - 1e-6 for time in times[first:])
        assert within <= fps + 2  # the first, and one that was late by less than a beat


def test_the_pace_keeps_its_beat_when_frames_are_a_little_late() -> None:
    pace, times = Pace(10.0), []
    now = 0.0
    for _ in range(100):
        now += pace.wait(now)
        times.append(now)
        pace.took(now)
        now += 0.04  # work
        now += pace.wait(now) + 0.02  # a timer that always wakes late
    assert times[-1] == pytest.approx(9.9, abs=0.05)


def test_fps_paces_a_folder_and_a_frame_that_is_not_due_waits(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(1))
    save(tmp_path / "b.png", picture(2))
    source = open_source(str(tmp_path), fps=1e-6)
    assert source.interval == 1e6
    assert source.next_frame(0) is not None
    assert source.next_frame(0) is None and source.next_frame(0.001) is None
    assert not source.ended
    source.close()


def test_the_end_of_a_paced_source_does_not_wait_for_the_next_beat(tmp_path: Path) -> None:
    source = open_source(str(save(tmp_path / "a.png", picture(1))), fps=1e-6)
    assert source.next_frame(0) is not None
    assert source.next_frame(0) is None and source.ended


def test_close_wakes_a_frame_that_waits_for_its_time(tmp_path: Path) -> None:
    source = open_source(str(save(tmp_path / "a.png", picture(1))), loop=True, fps=1e-6)
    assert source.next_frame(0) is not None
    taken: list[Frame | None] = []
    waiting = threading.Thread(target=lambda: taken.append(source.next_frame(1e6)))
    waiting.start()
    source.close()
    waiting.join(PATIENCE_S)
    assert taken == [None] and source.ended


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_a_usage_error(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UsageError, match="--fps"):
        open_source(str(save(tmp_path / "a.png", picture(1))), fps=fps)


# --- what can be a source


@pytest.mark.parametrize(
    "src", ["/nonexistent.mp4", "nope", "/dev/nope", "", "123456", "/dev/null", "rtsp://", "ftp://host/x", "rtsp://[::"]
)
def test_what_can_be_no_source_is_a_usage_error_at_once(src: str) -> None:
    def never(target: int | str) -> Any:
        raise AssertionError(f"tried to open {target}")

    with pytest.raises(UsageError) as caught:
        open_source(src, open_capture=never)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("src", "target", "name"),
    [
        ("0", 0, "0"),
        ("12", 12, "12"),
        ("/dev/video97", "/dev/video97", "/dev/video97"),
        ("/dev/v4l/by-id/usb-cam", "/dev/v4l/by-id/usb-cam", "/dev/v4l/by-id/usb-cam"),
        ("rtsp://host:554/live", "rtsp://host:554/live", "rtsp://host:554/live"),
        ("rtsp://me:se:cr@et@host/x", "rtsp://me:se:cr@et@host/x", "rtsp://me:***@host/x"),
        ("http://host/stream.mjpg", "http://host/stream.mjpg", "http://host/stream.mjpg"),
    ],
)
def test_devices_numbers_and_urls_are_live_and_show_no_password(
    src: str, target: int | str, name: str, warnings: list[str]
) -> None:
    device = FakeCamera([[picture(3)]])
    source = open_source(src, open_capture=device.open, warn=warnings.append)
    frame = source.next_frame(PATIENCE_S)
    assert frame is not None and source.live and not source.ended
    assert frame.source == source.name == name and device.targets[0] == target
    device.let_go()
    source.close()
    assert source.ended and "secr" not in "".join(warnings)


def test_a_file_below_dev_is_a_file() -> None:
    folder = Path("/dev/shm")
    if not os.access(folder, os.W_OK):
        pytest.skip("no /dev/shm here")
    path = save_video(folder / f"gradfec-test-{os.getpid()}.avi", 2)
    try:
        assert len(every_frame(open_source(str(path)))) == 2
    finally:
        path.unlink()


# --- live cameras


BLOCK = object()


class FakeCamera:
    """A camera that follows a script: one list of steps for each time that it is opened.

    A step is a picture, None (a failed read), an exception to raise, a function to call before the next step, or
    BLOCK, which waits for let_go(). A script None is a camera that does not open, a script that is an exception one
    whose driver raises it. After the last script comes [BLOCK].
    """

    def __init__(self, scripts: list[Any], rate: float = 0.0) -> None:
        self.scripts = iter(scripts)
        self.rate = rate
        self.targets: list[int | str] = []
        self.released = 0
        self.stop = threading.Event()
        self.waits: list[float] = []
        self.out_of_scripts = threading.Event()
        self.steps: Iterator[Any] | None = None

    def open(self, target: int | str) -> FakeCamera:
        self.targets.append(target)
        script = next(self.scripts, [BLOCK])
        if isinstance(script, Exception):
            raise script
        self.steps = None if script is None else iter(script)
        return self

    def block(self) -> None:
        self.out_of_scripts.set()
        assert self.stop.wait(PATIENCE_S)

    def let_go(self) -> None:
        self.stop.set()

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def isOpened(self) -> bool:  # noqa: N802
        return self.steps is not None

    def read(self) -> tuple[bool, Any]:
        assert self.steps is not None
        for step in self.steps:
            if step is BLOCK:
                self.block()
            elif callable(step):
                step()
            elif isinstance(step, Exception):
                raise step
            else:
                return step is not None, step
        return False, None

    def get(self, prop: int, /) -> float:
        assert prop == cv2.CAP_PROP_FPS
        return self.rate

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def live(warnings: list[str]) -> Iterator[Callable[..., tuple[Source, FakeCamera]]]:
    opened: list[tuple[Source, FakeCamera]] = []

    def start(scripts: list[Any], rate: float = 0.0, **options: Any) -> tuple[Source, FakeCamera]:
        device = FakeCamera(scripts, rate)
        source = open_source(
            "rtsp://host/x", warn=warnings.append, open_capture=device.open, sleep=device.sleep, **options
        )
        opened.append((source, device))
        return source, device

    yield start
    for source, device in opened:
        device.let_go()
        source.close()


Live = Callable[..., tuple[Source, FakeCamera]]


def test_a_camera_faster_than_inference_gives_its_newest_frame_and_counts_the_rest(
    live: Live, warnings: list[str]
) -> None:
    source, device = live([[picture(1), picture(2), picture(3), BLOCK]])
    assert device.out_of_scripts.wait(PATIENCE_S)
    frame = source.next_frame(0)
    assert frame is not None and frame.image[0, 0, 0] == 3 and frame.number == 0
    assert source.skipped == 2
    assert source.next_frame(0) is None and not source.ended and warnings == []


def test_frames_that_are_taken_in_time_are_not_counted_as_skipped(live: Live) -> None:
    taken = threading.Semaphore(0)
    script = [step for n in range(5) for step in (picture(n), lambda: taken.acquire(timeout=PATIENCE_S))]
    source, _ = live([script])
    for n in range(5):
        frame = source.next_frame(PATIENCE_S)
        assert frame is not None and frame.image[0, 0, 0] == n and frame.number == n
        if n < 4:
            taken.release()
    assert source.skipped == 0
    taken.release()


def test_a_slow_camera_gives_none_until_it_has_a_frame(live: Live) -> None:
    go = threading.Event()
    source, _ = live([[lambda: go.wait(PATIENCE_S), picture(9), BLOCK]])
    assert source.next_frame(0) is None and not source.ended
    go.set()
    frame = source.next_frame(PATIENCE_S)
    assert frame is not None and frame.image[0, 0, 0] == 9


def test_a_lost_camera_is_opened_again_with_one_warning_when_lost_and_one_when_found(
    live: Live, warnings: list[str]
) -> None:
    source, device = live([[picture(1), None], None, None, [picture(2), BLOCK]])
    assert device.out_of_scripts.wait(PATIENCE_S)
    frame = source.next_frame(0)
    assert frame is not None and frame.image[0, 0, 0] == 2
    assert len(warnings) == 2
    assert "rtsp://host/x: it stopped sending frames" in warnings[0]
    assert "rtsp://host/x: it sends frames now" in warnings[1]
    assert device.waits == [0.25, 0.5, 1.0] and device.released == 3


def test_the_back_off_doubles_to_five_seconds_and_starts_over_after_success(live: Live, warnings: list[str]) -> None:
    source, device = live([None] * 7 + [[picture(1), None], None])
    assert device.out_of_scripts.wait(PATIENCE_S)
    assert device.waits == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 0.25, 0.5]
    assert [line.split(": ")[1].split(";")[0] for line in warnings] == [
        "it cannot be opened",
        "it sends frames now",
        "it stopped sending frames",
    ]
    assert source.next_frame(0) is not None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ([], "it opens but sends no frames"),
        ([None], "it opens but sends no frames"),
        ([RuntimeError("select() timeout\nmore")], "select() timeout;"),
        ([cv2.error()], "error"),
        (OSError("no memory for the driver"), "no memory for the driver"),
        ([np.zeros((2, 2, 2), np.uint8)], "2 channels"),
        ([np.zeros((0, 0, 3), np.uint8)], "no picture"),
        ([np.zeros((2, 2, 3), np.float32)], "float32"),
    ],
)
def test_whatever_a_camera_does_it_is_opened_again(live: Live, warnings: list[str], script: Any, reason: str) -> None:
    source, device = live([script, script, [picture(4), BLOCK]])
    assert device.out_of_scripts.wait(PATIENCE_S)
    frame = source.next_frame(0)
    assert frame is not None and frame.image[0, 0, 0] == 4
    assert len(warnings) == 2 and reason in warnings[0] and "\n" not in warnings[0]
    assert device.waits == [0.25, 0.5]


def test_a_device_that_is_absent_at_the_start_is_waited_for_with_one_warning(warnings: list[str]) -> None:
    device = FakeCamera([None, None, [picture(1)]])
    source = open_source("/dev/video97", warn=warnings.append, open_capture=device.open, sleep=device.sleep)
    assert source.next_frame(PATIENCE_S) is not None
    device.let_go()
    source.close()
    assert "camera /dev/video97: there is no /dev/video97; trying again" in warnings[0]
    assert "sends frames now" in warnings[1]


def test_a_real_camera_number_that_is_absent_warns_and_prints_nothing_of_opencvs_own(
    warnings: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    tried_twice = threading.Semaphore(0)

    def sleep(seconds: float) -> None:
        tried_twice.release()
        stopped.wait(PATIENCE_S if seconds > 0.25 else 0)

    stopped = threading.Event()
    source = open_source("997", warn=warnings.append, sleep=sleep)
    for _ in range(2):
        assert tried_twice.acquire(timeout=PATIENCE_S)
    stopped.set()
    source.close()
    assert len(warnings) == 1 and "camera 997:" in warnings[0]
    assert capfd.readouterr().err == ""


def test_the_interval_of_a_camera_is_the_slower_of_its_own_and_fps(live: Live) -> None:
    for rate, fps, expected in [(25.0, None, 0.04), (25.0, 5.0, 0.2), (25.0, 100.0, 0.04), (90000.0, None, None)]:
        source, _ = live([[picture(1)]], rate, fps=fps)
        assert source.next_frame(PATIENCE_S) is not None
        assert source.interval == expected


def test_fps_holds_a_cameras_newest_frame_back(live: Live) -> None:
    go = threading.Event()
    source, device = live([[picture(1), lambda: go.wait(PATIENCE_S), picture(2), BLOCK]], fps=1e-6)
    assert source.next_frame(PATIENCE_S) is not None
    go.set()
    assert device.out_of_scripts.wait(PATIENCE_S)
    assert source.next_frame(0) is None and source.next_frame(0.001) is None


def test_close_wakes_who_waits_for_a_frame_and_releases_the_camera(live: Live) -> None:
    source, device = live([])
    assert device.out_of_scripts.wait(PATIENCE_S)
    taken: list[Frame | None] = []
    waiting = threading.Thread(target=lambda: taken.append(source.next_frame(1e6)))
    waiting.start()
    closing = threading.Thread(target=source.close)
    closing.start()
    waiting.join(PATIENCE_S)  # although the camera is still being read
    assert taken == [None] and source.ended
    device.let_go()
    closing.join(PATIENCE_S)
    assert device.released == 1


def test_close_ends_the_wait_between_two_attempts(warnings: list[str]) -> None:
    tried = threading.Event()

    def refuse(target: int | str) -> Any:
        tried.set()
        raise OSError("no")

    source = open_source("0", warn=warnings.append, open_capture=refuse)
    assert tried.wait(PATIENCE_S)
    source.close()
    assert source.ended and source.next_frame(0) is None
    assert "camera 0" not in {thread.name for thread in threading.enumerate()}


def test_loop_on_a_camera_is_said_to_have_no_effect(live: Live, warnings: list[str]) -> None:
    live([[picture(1)]], loop=True)
    assert "--loop has no effect" in warnings[0]
