"""`gradfec sweep daemons`: its images, the options of its edge, its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_edge.coding import coding_of
from gradfec_lab.sweep.daemons import Setting, daemons_table, link_images, setting_of, share, shares, uncut_row


def test_the_first_images_by_name_are_taken_and_other_files_are_not(tmp_path: Path) -> None:
    images, folder = tmp_path / "images", tmp_path / "folder"
    images.mkdir()
    folder.mkdir()
    for name in ("c.png", "a.JPG", "b.webp", ".hidden.png", "notes.txt"):
        (images / name).touch()
    assert link_images(images, folder, 2) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["a.JPG", "b.webp"]
    assert (folder / "a.JPG").resolve() == (images / "a.JPG").resolve()


def test_a_folder_without_images_is_a_wrong_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no images"):
        link_images(tmp_path, tmp_path, 9)
    with pytest.raises(UsageError, match="is not a folder"):
        link_images(tmp_path / "missing", tmp_path, 9)


def test_losses_are_written_as_shares_or_as_percentages() -> None:
    assert shares("0,10%, 0.3") == [0.0, 0.1, 0.3]


def test_the_uncut_model_agrees_with_itself_and_is_right_as_often_as_the_labels_say() -> None:
    reference = {"a": 1, "b": 2, "c": 3, "d": 4}
    assert uncut_row(reference, {"a": 1, "b": 9, "c": 3}, 4)["top1"] == 0.5  # d has no label: not right
    assert uncut_row(reference, None, 4)["top1"] is None
    assert share([True, False, False, True]) == 0.5


def test_the_edge_runs_in_the_papers_mode_unless_packets_share_datagrams() -> None:
    cut = named_cut(DEFAULT_CUT)
    paper = Setting("uniform8", coding_of(cut, 7, "uniform8", "fec_50_50", "zfec:256", 1), "zfec:256", "proxy")
    assert paper.options() == [
        *("--mode", "paper", "--packets-per-datagram", "1", "--codec", "uniform8", "--protect", "FEC_50_50"),
        *("--fec", "zfec:256", "--importance", "proxy"),
    ]
    together = Setting("sqrt4", coding_of(cut, 7, "sqrt4", "none", "leopard"), "leopard", "static")
    assert together.options() == [
        *("--codec", "sqrt4", "--protect", "none", "--fec", "leopard", "--importance", "static"),
    ]


def test_an_estimator_is_that_of_the_edge_unless_it_is_named() -> None:
    cut = named_cut(DEFAULT_CUT)
    assert setting_of("uniform8", coding_of(cut, 7, "uniform8", "none", "zfec"), "zfec", None).importance == "proxy"
    picture = coding_of(named_cut("input_layer"), None, "webp:20", None, "zfec")
    assert setting_of("webp:20", picture, "zfec", None).importance == "order"
    with pytest.raises(UsageError, match="no importance estimator is called 'luck'"):
        setting_of("uniform8", coding_of(cut, 7, "uniform8", "none", "zfec"), "zfec", "luck")


def test_the_table_sums_what_is_unaccounted_for_without_cancelling() -> None:
    measured = {"protect": "none", "codec": "sqrt4", "loss": 0.3, "frames": 4, "top1": 0.5, "agreement": 0.75}
    measured |= {"datagrams": {"sent": 410, "lost": 123}, "packets": {"recovered": 2048, "missing": 7}}
    measured |= {"unaccounted": {"edge to injector": 3, "injector to cloud": -2}, "frame_bytes": 434_600}
    uncut, none = daemons_table([uncut_row({"a": 1}, None, 1), measured]).lines
    assert uncut == ["uncut", "", "", "1", "", "100.0%", *[""] * 6]
    assert none == ["none", "sqrt4", "30%", "4", "50.0%", "75.0%", "410", "123", "2,048", "7", "434,600", "5"]
