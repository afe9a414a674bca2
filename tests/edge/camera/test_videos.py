"""Video files as sources, the pace of any source, and what can be one."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfec_common.errors import GradfecError, UsageError
from gradfec_edge.camera import Frame, open_source
from gradfec_edge.frames import Pace

from .fake_camera import FakeCamera
from .pictures import PATIENCE_S, every_frame, picture, save, save_video

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


def test_close_wakes_a_thread_that_waits_for_a_frame_to_be_due(tmp_path: Path) -> None:
    source = open_source(str(save(tmp_path / "a.png", picture(1))), loop=True, fps=1e-300)
    assert source.next_frame(0) is not None
    taken: list[Frame | None] = []
    waiting = threading.Thread(target=lambda: taken.append(source.next_frame()))
    waiting.start()
    source.close()
    waiting.join(PATIENCE_S)
    assert taken == [None] and source.ended


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_rate_is_a_usage_error(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UsageError, match="--fps"):
        open_source(str(save(tmp_path / "a.png", picture(1))), fps=fps)


# --- what can be a source


@pytest.mark.parametrize(
    "src", ["/nonexistent.mp4", "nope", "/dev/nope", "", "123456", "/dev/null", "rtsp://", "ftp://host/x", "rtsp://[::"]
)
def test_an_impossible_source_is_a_usage_error_at_once(src: str) -> None:
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
        (
            "http://h/x?user=me&password=secr&ch=1",
            "http://h/x?user=me&password=secr&ch=1",
            "http://h/x?user=me&password=***&ch=1",
        ),
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
