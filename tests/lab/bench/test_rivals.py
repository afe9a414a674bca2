"""`gradfec bench rivals`: its camera, its links, its plans, its scores, its table; and once the real thing."""

from __future__ import annotations

import io
import json
import math
import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_cli.daemons import daemon
from gradfec_cli.netem import main as netem
from gradfec_cli.schedule import read_schedule
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_lab.bench.rivals import namespaces
from gradfec_lab.bench.rivals.footage import FPS, LEAD_IN, Film, Footage, Playback, pan, panned
from gradfec_lab.bench.rivals.h264_srt import H264Srt, coding, srt, video_rate
from gradfec_lab.bench.rivals.jpeg import enough, most_frame_bytes, sizes, survival, with_parity, without_parity
from gradfec_lab.bench.rivals.jpeg_tcp import TUNNEL, connect, received
from gradfec_lab.bench.rivals.links import LINKS, STEADY, State
from gradfec_lab.bench.rivals.ours import answers_of
from gradfec_lab.bench.rivals.pictures import from_jpeg, from_planes, marked, to_jpeg, to_planes, unmarked
from gradfec_lab.bench.rivals.played_edge import PlayedCamera
from gradfec_lab.bench.rivals.registry import RIVALS
from gradfec_lab.bench.rivals.report import figure, table
from gradfec_lab.bench.rivals.rival import Answer, Flow
from gradfec_lab.bench.rivals.score import score, wilson
from gradfec_lab.bench.rivals.tunnel import READY
from gradfec_lab.photographs import Photographs

SLOW = State(40, rate_mbit_s=1, loss=0.05)


def photograph(height=300, width=400):
    """A picture in which every place looks different."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 200 // height, columns * 200 // width, (rows + columns) % 50], axis=2).astype(np.uint8)


def footage(frames=10):
    film = Film(pan(photograph())[np.arange(frames) % 10], [f"{n // 10}.png" for n in range(frames)])
    return Footage.of(film, np.arange(frames), None)


# --- the camera ---


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (256, 256), (90, 70)])
def test_the_camera_pans_over_a_photograph_of_any_shape(height, width):
    frames = pan(photograph(height, width))
    assert frames.shape == (10, 224, 224, 3)
    moved = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)]
    assert min(moved) > 0  # it never stands still


def test_the_camera_moves_along_the_diagonal_of_the_middle():
    picture = photograph(256, 300)
    frames = pan(picture)
    assert np.array_equal(frames[0], picture[:224, 22 : 22 + 224])
    assert np.array_equal(frames[9], picture[32:, 54 : 54 + 224])


def test_photographs_that_cannot_be_read_are_passed_over(tmp_path):
    for name in ("a.png", "c.png", "d.png"):
        cv2.imwrite(str(tmp_path / name), photograph())
    (tmp_path / "b.png").write_text("no picture")
    film = panned(Photographs(tmp_path, named_cut(DEFAULT_CUT).network.preprocess), 2)
    assert film.frames.shape == (20, 224, 224, 3)
    assert film.sources == 10 * ["a.png"] + 10 * ["c.png"]


def test_footage_begins_with_a_lead_in_and_is_cut_or_repeated_to_a_length():
    film = Film(np.arange(20, dtype=np.uint8)[:, None, None, None], 10 * ["a"] + 10 * ["b"])
    once, long = (Footage.of(film, np.arange(20), seconds) for seconds in (None, 5.0))
    lead_in = [*range(10), *range(10)]
    assert once.truth.tolist() == [*lead_in, *range(20)]
    assert long.truth.tolist() == [*lead_in, *range(20), *range(5)]
    assert long.frames[:, 0, 0, 0].tolist() == long.truth.tolist()
    assert once.sources[LEAD_IN + 10] == "b"
    assert long.seconds == (LEAD_IN + 25) / FPS


def test_at_any_time_only_the_newest_frame_is_there_and_once():
    camera = Playback(5, 5, start=100.0)
    assert camera.newest(99.9) is None
    assert (camera.newest(100.0), camera.newest(100.1)) == (0, None)
    assert camera.newest(100.65) == 3  # 1 and 2 are gone
    assert camera.next_due == pytest.approx(100.8)
    assert camera.newest(107.0) == 4
    assert camera.next_due is None
    assert camera.newest(108.0) is None


def test_a_played_camera_is_live_names_its_frames_and_ends(tmp_path):
    path = tmp_path / "frames.npy"
    np.save(path, np.zeros((4, 2, 2, 3), np.uint8))
    camera = PlayedCamera(str(path), 0.1)
    assert camera.live
    assert camera.next_frame().source == "0"
    camera._playback = Playback(4, 0.1, start := time.monotonic() - 25)  # a reader that comes late
    late = camera.next_frame()
    assert (late.source, late.captured_at) == ("2", start + 20)
    assert camera.next_frame(timeout=0) is None and not camera.ended
    camera._playback = Playback(4, 0.1, time.monotonic() - 35)
    assert camera.next_frame().source == "3"
    assert camera.next_frame() is None and camera.ended


# --- which frame a picture is ---


@pytest.mark.parametrize("number", [0, 1, 319, 5000, 8191])
def test_a_mark_outside_the_picture_says_its_number_even_after_poor_coding(number):
    picture = pan(photograph())[0]
    coded = from_planes(to_planes(from_jpeg(to_jpeg(marked(picture, number), 10))), 224)
    shown, read = unmarked(coded)
    assert read == number
    assert shown.shape == picture.shape
    assert np.abs(shown.astype(int) - picture).mean() < 15


def test_a_damaged_mark_is_no_number():
    picture = marked(pan(photograph())[0], 6)
    picture[-16:, 16:32] = 0
    assert unmarked(picture)[1] is None
    picture[-16:] = 128
    assert unmarked(picture)[1] is None
    picture[-16:] = 0
    assert unmarked(picture)[1] is None


# --- links and plans ---


def test_the_injector_takes_every_links_options_and_a_walk_has_a_schedule(tmp_path):
    for link in LINKS.values():
        options = link.options(tmp_path, lead_in_s=4)
        netem.make_context("netem", ["--listen", "9001", "--to", "127.0.0.1:9000", *options])
    steps = read_schedule(tmp_path / "schedule.txt")
    assert [step.at_s for step in steps] == [14, 24, 34, 44, 54]
    assert (steps[-1].up.rate_bps, steps[-1].up.queue_datagrams) == (300_000, 12)
    assert {(step.back.loss, step.back.rate_bps) for step in steps} == {(0.0, None)}
    assert [step.back.delay_s == step.up.delay_s for step in steps] == 5 * [True]


def test_a_link_knows_its_state_at_a_time():
    walk = LINKS["walk"]
    assert [walk.state_at(seconds) for seconds in (-4, 0, 9.9)] == 3 * [STEADY["clean"]]
    assert walk.state_at(10) == STEADY["5mbit"]
    assert walk.state_at(70) == STEADY["300kbit"]
    assert walk.nominal.loss == 0.2


def test_parity_is_for_the_links_own_losses():
    independent, bursts = (State(40, loss=0.2, burst=burst) for burst in (None, 8))
    assert survival(State(40), 8, 8) == 1
    exact = sum(math.comb(12, n) * 0.8**n * 0.2 ** (12 - n) for n in range(8, 13))
    assert survival(independent, 8, 12) == pytest.approx(exact, abs=0.03)
    assert enough(independent, 8, 50) < enough(bursts, 8, 50)
    assert enough(bursts, 8, 9) is None


def test_jpeg_is_as_good_as_a_link_has_room_for():
    noise = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    clean = with_parity(noise, STEADY["clean"])
    assert (clean.quality, clean.policy) == (90, "none")
    slow = with_parity(noise, SLOW)
    assert slow.policy == f"nested:{slow.k}/{slow.n}"
    assert slow.quality < 90 and slow.n > slow.k
    assert slow.n * 1228 <= most_frame_bytes(SLOW)
    tight = with_parity(noise, State(40, rate_mbit_s=0.01, loss=0.5))
    assert (tight.quality, tight.policy) == (10, "none")  # it does not fit, and parity would only add to that
    assert without_parity(noise, STEADY["clean"]) == 90
    chosen = without_parity(noise, SLOW)
    assert np.mean(sizes(noise, chosen)) <= most_frame_bytes(SLOW) * 0.95


def test_video_has_a_rate_that_suits_the_link():
    assert video_rate(STEADY["clean"], 120) == (1000, 500)
    assert video_rate(STEADY["5mbit"], 120) == (1000, 300)  # of a picture of 300 kbit, half of the latency
    assert video_rate(STEADY["2mbit-half"], 500) == (500, 250)
    assert video_rate(STEADY["300kbit"], 120) == (90, 18)  # one picture after the other, each no larger than the rest
    assert "-b:v 90k -maxrate 90k -bufsize 18k -f mpegts" in " ".join(coding(90, 18))
    assert srt(9000, "caller", 120, SLOW).endswith("9000?mode=caller&latency=120000&connect_timeout=10000&maxbw=125000")


# --- scores ---


def test_wilsons_interval_is_the_textbooks():
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1), abs=1e-4)


def test_shares_are_of_all_frames_taken_and_the_lead_in_does_not_count():
    taken = footage()
    right = {LEAD_IN + n: Answer(n, 100.0 * n) for n in range(5)}  # 100 to 400 ms
    answers = right | {3: Answer(3, 1.0), LEAD_IN + 5: Answer(999, 50.0), LEAD_IN + 6: Answer(6, 1500.0)}
    row = score(Flow(answers, 150_000, "so"), taken, {"0.png": 999})
    assert (row["frames"], row["answered"]) == (10, 7)
    assert (row["within_300_ms"], row["within_1000_ms"]) == (0.4, 0.5)
    assert row["within_1000_ms_low"] < 0.5 < row["within_1000_ms_high"]
    assert row["top1_within_1000_ms"] == 0.1
    assert row["p50_ms"] == 200
    assert row["kbit_s"] == 200  # 1.2 Mbit in 6 s


def test_a_run_without_answers_has_no_latency():
    row = score(Flow({}, 0, "so"), footage(), None)
    assert (row["within_1000_ms"], row["p50_ms"], row["p95_ms"]) == (0, None, None)


def test_an_edges_records_become_answers_by_frame():
    given = {"top5": [{"class_index": 7}], "latency_ms": 80.5}
    records = [{"source": "3", **given}, {"source": "4", "top5": [], "latency_ms": None}]
    assert answers_of(records) == {3: Answer(7, 80.5)}


def rows():
    measured = score(Flow({LEAD_IN: Answer(0, 80.0)}, 1000, "no options"), footage(), None)
    return [
        {"link": "clean", "rival": "auto", **measured},
        {"link": "clean", "rival": "jpeg-tcp", "not_measured": "it needs root"},
        {"link": "walk", "rival": "auto", **measured},
    ]


def test_the_table_has_a_line_for_each_and_says_what_was_not_measured():
    from rich.console import Console

    console = Console(width=170, record=True, file=io.StringIO())
    console.print(table(rows()))
    text = console.export_text()
    assert "10 (2–40)" in text
    assert "not measured: it needs root" in text
    assert text.count("clean") == 1
    assert "80" in text and "no options" in text


def test_the_figure_is_drawn_even_where_a_rival_was_not_measured(tmp_path):
    figure(rows(), tmp_path / "rivals.png")
    assert cv2.imread(str(tmp_path / "rivals.png")) is not None


# --- the command ---


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--links", "clean,moon"], "--links: there is no moon; there are clean, 5mbit"),
        (["--rivals", "pigeon"], "--rivals: there is no pigeon; there are auto, paper-20"),
        (["--figure", "a.gif"], "its name must end in one of .png, .svg, .pdf"),
        (["--figure", "missing/a.png"], "there is no folder missing"),
        ([], "is not a folder: --images takes a folder of images"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(options, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["bench", "rivals", "--images", "nowhere", *options])
    assert done.exit_code in (1, 2)
    assert complaint in done.stderr


def test_video_without_ffmpeg_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    from gradfec_lab.bench.rivals.h264_srt import ffmpeg

    ffmpeg.cache_clear()
    assert "pip install 'gradfec[rivals]'" in H264Srt(120).why_not()


@pytest.mark.skipif(bool(namespaces.why_not()), reason="no network namespaces with TUN devices here")
def test_packets_between_the_namespaces_come_out_of_their_devices():
    with namespaces.two_ends() as (near, far):
        far.socket.bind((namespaces.FAR, 9000))
        far.socket.listen()
        near.socket.settimeout(0.05)
        knock = threading.Thread(target=near.socket.connect_ex, args=((namespaces.FAR, 9000),))
        knock.start()
        knock.join()
        packets = []
        while not packets or packets[-1][0] >> 4 != 4:
            packets.append(os.read(near.tun, 2000))
        assert packets[-1][9] == 6  # TCP: the first packet of a connection
        with pytest.raises(BlockingIOError):
            while os.read(far.tun, 2000)[0] >> 4 != 4:
                pass


@pytest.mark.skipif(bool(namespaces.why_not()), reason="no network namespaces with TUN devices here")
def test_the_kernels_tcp_passes_the_injectors_channel_and_its_schedule(tmp_path):
    (tmp_path / "walk.txt").write_text("0.5 --loss 100%\n")
    with namespaces.two_ends() as (near, far):
        far.socket.bind((namespaces.FAR, 9000))
        far.socket.listen()
        tuns = (near.tun, far.tun)
        options = ["--delay", "50", "--back-delay", "50", "--schedule", str(tmp_path / "walk.txt")]
        with daemon("tunnel", *tuns, *options, ready=READY, program=TUNNEL, pass_fds=tuns) as carrier:
            begun = time.monotonic()
            connect(near.socket)
            assert time.monotonic() - begun >= 0.1
            connection, _ = far.socket.accept()
            near.socket.sendall(b"before")
            with connection:
                assert received(connection, 6) == b"before"
                time.sleep(0.6)
                near.socket.sendall(b"behind")
                connection.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    connection.recv(6)
            up = carrier.totals()["up"]
    assert up["dropped_loss"] > 0
    assert up["received_bytes"] > 20 * up["received"]  # IP's own headers are in them


@pytest.mark.daemons
@pytest.mark.slow
def test_rivals_answer_frames_over_a_link(photographs: Path):
    measurable = [name for name in ("auto", "jpeg-tcp") if not RIVALS[name].why_not()]
    done = CliRunner().invoke(
        main,
        [
            *["bench", "rivals", "--count", "1", "--links", "clean", "--json", "--images"],
            str(photographs),
            "--rivals",
            ",".join(measurable),
        ],
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["rows"]
    assert [row["rival"] for row in found] == measurable
    for row in found:
        assert row["frames"] == 10
        assert row["answered"] > 0  # a busy machine may take no more
        assert row["kbit_s"] > 10
        assert row["p50_ms"] > 40  # there and back
