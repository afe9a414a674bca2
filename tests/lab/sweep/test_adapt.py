"""What `gradfec sweep adapt` makes of its drives; the drives themselves are tested in tests/lab/drive."""

import numpy as np
import pytest
from click.testing import CliRunner

from gradfec_cli.cli import main
from gradfec_lab.drive.drive import Shot
from gradfec_lab.drive.scenes import LOSSES
from gradfec_lab.sweep.adapt import STEP_SMOOTH, Fixed, connected, first, smooth
from gradfec_lab.sweep.adapt_tables import regret_table


def test_frames_before_the_first_that_was_sent_do_not_count():
    shots = [Shot(number, 0.2 * number) for number in range(5)]
    assert connected(shots) == []
    shots[2].plan = object()
    assert [shot.number for shot in connected(shots)] == [2, 3, 4]


def test_values_are_averaged_with_those_that_follow():
    values = np.arange(3.0 * STEP_SMOOTH)
    assert smooth(values) == pytest.approx(values[: 2 * STEP_SMOOTH + 1] + (STEP_SMOOTH - 1) / 2)


def test_the_first_that_holds_is_found_and_none_if_none_does():
    assert first(np.array([False, True, True])) == 1
    assert first(np.array([False, False])) is None


def test_a_fixed_plan_is_told_as_the_user_writes_it():
    assert Fixed(3, 12, 7).name == "--quality 3 --protect nested:7/12"
    assert Fixed(3, 12, 12).name == "--quality 3 --protect nested:12"


def test_regret_is_what_the_fixed_plan_has_more():
    rows = [
        {"link": "a", "agreement": 0.9, "bytes": 8000.0, "fixed": "x", "fixed_agreement": 0.92, "fixed_bytes": 7000.0},
        {"link": "b", "agreement": 0.9, "bytes": 8000.0},  # no fixed plan has so few bytes
    ]
    assert [line[-1] for line in regret_table(rows, 12_000).lines] == ["+2.0", "-"]


def test_there_are_twenty_links_and_each_begins_at_once():
    assert len(LOSSES) == 20
    assert all(stretches[0].since == 0 for stretches in LOSSES.values())


def test_a_codec_whose_worth_is_unknown_is_refused_in_one_line(tmp_path):
    (tmp_path / "a.jpg").touch()
    ended = CliRunner().invoke(main, ["sweep", "adapt", "--images", str(tmp_path), "--codec", "sqrt4"])
    assert ended.exit_code == 2
    assert "sqrt4 is not a bottleneck whose worth was measured" in ended.stderr
