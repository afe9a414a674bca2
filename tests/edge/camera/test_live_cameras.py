"""Live cameras: they give their newest frame, and are opened again when they fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from gradfec_edge.camera import Frame, Source, open_source

from .fake_camera import BLOCK, FakeCamera
from .pictures import PATIENCE_S, picture


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


def test_why_a_camera_sends_no_frames_is_known_until_it_does(live: Live) -> None:
    tried, go = threading.Event(), threading.Event()
    source, device = live([None, [tried.set, lambda: go.wait(PATIENCE_S), picture(1), BLOCK]])
    assert tried.wait(PATIENCE_S)
    assert source.trouble == "camera rtsp://host/x: it cannot be opened"
    go.set()
    assert device.out_of_scripts.wait(PATIENCE_S)
    assert source.trouble == ""


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


def test_close_wakes_a_thread_that_waits_for_a_frame_and_releases_the_camera(live: Live) -> None:
    source, device = live([])
    assert device.out_of_scripts.wait(PATIENCE_S)
    taken: list[Frame | None] = []
    waiting = threading.Thread(target=lambda: taken.append(source.next_frame()))
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
