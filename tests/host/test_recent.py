"""The last seconds' frames: their rate, their losses, and how long their answers took."""

import pytest

from gradfec_host.recent import MOST_FRAMES, WINDOW_S, Recent, kilobytes, milliseconds, percent, sent_in_words


def frames(count, every_s=1.0):
    recent = Recent()
    for n in range(count):
        recent.add(n * every_s, {"sent": 100, "lost": 10}, 4, 50.0 + n, 10_000)
    return recent


def test_the_rate_is_over_the_window_and_falls_to_nothing_once_no_frame_comes():
    recent = frames(21, every_s=0.5)  # two a second
    assert recent.frames_per_s(10.0) == pytest.approx(2.0)
    assert 0 < recent.frames_per_s(10.0 + WINDOW_S / 2) < 2.0
    assert recent.frames_per_s(10.0 + WINDOW_S + 1) == 0
    assert recent.loss(10.0 + WINDOW_S + 1) is None


def test_the_last_frames_give_the_rate_of_a_fast_stream():
    recent = frames(2 * MOST_FRAMES, every_s=0.01)
    assert recent.frames_per_s(2 * MOST_FRAMES * 0.01) == pytest.approx(100, rel=0.05)


def test_loss_recovery_and_median_are_of_the_frames_of_the_window():
    recent = frames(3)
    assert recent.loss(3.0) == pytest.approx(0.1)
    assert recent.recovered(3.0) == 12
    assert recent.latency_ms(3.0) == 51.0


def test_a_frame_without_a_report_says_nothing_of_the_loss():
    recent = frames(2)
    recent.add(2.0, {"sent": 100, "lost": None}, None, None, 10_000)
    assert recent.loss(3.0) == pytest.approx(0.1)
    assert recent.latency_ms(3.0) == 50.5


def test_what_is_not_known_is_a_dash():
    assert (percent(None), milliseconds(None)) == ("-", "-")
    assert (percent(0.125), milliseconds(41.6)) == ("12.5 %", "42 ms")


def test_the_bytes_of_a_frame_and_their_rate_are_those_of_the_window():
    recent = frames(21, every_s=0.5)
    assert recent.frame_bytes(10.0) == 10_000
    assert recent.kbit_s(10.0) == pytest.approx(160.0)
    recent.add(10.5, {"sent": 0, "lost": None}, None, None, 0)  # one that was never sent
    assert recent.frame_bytes(10.5) == 10_000
    assert (recent.frame_bytes(30.0), recent.kbit_s(30.0)) == (None, 0)


def test_bytes_are_written_in_kb_and_their_rate_in_kbit_a_second():
    assert [kilobytes(size) for size in (None, 512, 5_240, 434_600)] == ["-", "0.5 kB", "5.2 kB", "435 kB"]
    assert sent_in_words(434_600, 2173.2) == "435 kB a frame, 2173 kbit/s"
