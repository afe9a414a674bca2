"""`gradfec show`: what the figure shows is what the plan does; a wrong argument is one line before any slow work."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gradfec_cloud.labels import labels
from gradfec_common.codes import BARE, ZFEC
from gradfec_common.errors import GradfecError
from gradfec_common.network import SplitPoint
from gradfec_common.packets import PacketGrid
from gradfec_common.plan import Block, Plan, Scheme, parse_scheme
from gradfec_lab.cli import main
from gradfec_lab.explanation import Answer, Explanation, Ranking, answer, kept
from gradfec_lab.show_figure import BARE as SENT_BARE
from gradfec_lab.show_figure import DROPPED, GAP, PROTECTED, draw, fates, mosaic, per_packet, ranks, save, title

if TYPE_CHECKING:
    from gradfec_lab.gradcam import GradCam

GRID = PacketGrid((56, 56, 20), 7)  # 160 packets
SPLIT = SplitPoint(900, "a_small_one", GRID.shape)
CAT, DOG = Answer(285, "Egyptian_cat", 0.8), Answer(207, "golden_retriever", 0.4)
LONGEST = max(range(1000), key=lambda index: len(labels()[index]))


def show(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["show", *map(str, arguments)])


def explanation(scheme: Scheme, estimators: tuple[str, ...] = ("gradcam", "activation")) -> Explanation:
    rng = np.random.default_rng(1)
    scores = [rng.random(GRID.count).astype(np.float32) for _ in estimators]
    rankings = [Ranking(name, s, scheme.plan(s), CAT) for name, s in zip(estimators, scores, strict=True)]
    image = rng.integers(0, 256, (224, 224, 3)).astype(np.uint8)
    chi = rng.normal(size=GRID.shape).astype(np.float32)
    return Explanation(image, chi, SPLIT, GRID, scheme.name, CAT, CAT, rankings)


# --- what is drawn ---


def test_every_tile_of_the_mosaic_is_a_channel_row_by_row_with_gaps_between() -> None:
    chi = np.random.default_rng(2).normal(size=GRID.shape).astype(np.float32)
    whole = mosaic(chi)  # 20 channels: 5 across, 4 down
    assert whole.shape == (4 * 56 + 3 * GAP, 5 * 56 + 4 * GAP)
    for channel in range(20):
        y, x = (56 + GAP) * (channel // 5), (56 + GAP) * (channel % 5)
        np.testing.assert_array_equal(whole[y : y + 56, x : x + 56], chi[..., channel])
    assert np.isnan(whole).sum() == whole.size - chi.size


@pytest.mark.parametrize("shape", [(224, 224, 3), (14, 14, 1024), (7, 7, 512), (1, 1, 2048), (28, 28, 1)])
def test_a_tensor_of_any_split_is_tiled_without_losing_an_element(shape: tuple[int, int, int]) -> None:
    chi = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    whole = mosaic(chi)
    np.testing.assert_array_equal(np.sort(whole[~np.isnan(whole)]), chi.ravel())


def test_a_packet_is_a_strip_of_its_channels_tile() -> None:
    values = np.arange(GRID.count, dtype=np.float32)
    spread = per_packet(values, GRID)
    for packet in (0, 7, 8, 159):
        channel, group = divmod(packet, GRID.groups)
        assert (spread[7 * group : 7 * group + 7, :, channel] == packet).all()


def test_ranks_go_from_0_to_1_in_the_order_of_the_scores_and_equal_scores_share_one() -> None:
    np.testing.assert_allclose(ranks(np.array([5, 1e9, -2, 5, 5], np.float32)), [0.5, 1, 0, 0.5, 0.5])
    np.testing.assert_allclose(ranks(np.array([3, 3], np.float32)), [0.5, 0.5])
    np.testing.assert_allclose(ranks(np.array([3], np.float32)), [0])


def test_each_packet_has_the_fate_that_its_plan_gives_it() -> None:
    plan = Plan(
        6, np.array([4, 0]), (Block(np.array([5, 1]), 3, ZFEC), Block(np.array([2]), 1, BARE), Block([3], 1, ZFEC))
    )
    assert fates(plan).tolist() == [DROPPED, PROTECTED, SENT_BARE, SENT_BARE, DROPPED, PROTECTED]


def test_what_is_kept_is_what_the_cloud_decodes_where_nothing_is_lost() -> None:
    chi = np.random.default_rng(3).uniform(1, 9, GRID.shape).astype(np.float32)
    plan = parse_scheme("FEC_50_50").plan(np.arange(GRID.count, dtype=np.float32))
    packets = GRID.split(kept(chi, plan, GRID))
    assert not packets[:80].any()
    np.testing.assert_allclose(packets[80:], GRID.split(chi)[80:], atol=8 / 255 / 2 + 1e-6)


def test_an_answer_is_the_likeliest_class_or_the_one_asked_for_with_its_share_of_all() -> None:
    logits = np.full(1000, -1000, np.float32)
    logits[[285, 207]] = 900 + np.log([3, 1])
    assert str(answer(logits)) == "Egyptian cat 0.75"
    assert str(answer(logits, 207)) == "golden retriever 0.25"


def test_the_figure_has_a_column_for_each_ranking_and_counts_the_fates() -> None:
    figure = draw(explanation(parse_scheme("FEC_40_60"), ("gradcam", "activation", "random")), "cat.jpg")
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == [
        "As the network sees it, 224 x 224",
        "160 packets ranked by the oracle, gradcam",
        "160 packets ranked by activation",
        "160 packets ranked by random",
        "max(chi, 0): 20 channels of a_small_one",
        *["FEC_40_60: still Egyptian cat 0.80"] * 3,
    ]
    legend = panels[-1].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["dropped, so 0: 64", "protected: 96", "bare: 0"]


@pytest.mark.parametrize("estimators", [("gradcam",), ("gradcam", "activation", "random")])
def test_no_panel_with_its_words_overlaps_another_or_leaves_the_figure(estimators: tuple[str, ...]) -> None:
    shown = explanation(parse_scheme("FEC_12.5_87.5"), estimators)
    answer = Answer(LONGEST, labels()[LONGEST], 0.5)
    shown = replace(shown, rankings=[replace(ranking, answer=answer) for ranking in shown.rankings])
    figure = draw(shown, "cat.jpg")
    figure.draw_without_rendering()
    panels = [axis for axis in figure.axes if axis.get_title()]
    boxes = [axis.get_tightbbox() for axis in panels] + [text.get_window_extent() for text in figure.texts]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)


def test_without_protection_all_packets_are_bare() -> None:
    figure = draw(explanation(parse_scheme("none")), "cat.jpg")
    legend = figure.axes[5].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["dropped, so 0: 0", "protected: 0", "bare: 160"]


def test_the_words_say_whether_the_answer_stood_and_which_class_is_explained() -> None:
    shown = explanation(parse_scheme("none"))
    fell = Ranking("random", shown.rankings[0].scores, shown.rankings[0].plan, DOG)
    assert shown.verdict(shown.rankings[0]) == "still Egyptian cat 0.80"
    assert shown.verdict(fell) == "now golden retriever 0.40"
    assert title(shown, "a.jpg") == "a.jpg: lossless answer Egyptian cat 0.80"
    assert title(replace(shown, explained=DOG), "a.jpg").endswith(", importance for golden retriever 0.40")


@pytest.mark.parametrize("name", ["$a_{b.jpg", "\udcff.jpg", "猫.jpg", 300 * "n"])
@pytest.mark.filterwarnings("error")
def test_any_name_of_a_file_can_stand_in_the_title(name: str, tmp_path: Path) -> None:
    figure = draw(explanation(parse_scheme("none"), ("gradcam",)), name)
    for suffix in ("png", "svg", "PDF"):
        save(figure, tmp_path / f"out.{suffix}")
        assert (tmp_path / f"out.{suffix}").stat().st_size > 10_000


# --- the command ---


@pytest.fixture
def photo(photographs: Path) -> Path:
    return photographs / "chelsea.png"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--out", "{tmp}/out.jpg"], 2, "its name must end in one of .png, .svg, .pdf"),
        (["--out", "{tmp}/out"], 2, "is no figure"),
        (["--out", "{tmp}/missing/out.png"], 1, "there is no folder {tmp}/missing"),
        (["--out", "{tmp}/folder.png"], 1, "it is a folder"),
        ([], 2, "Missing option '--out'"),
        (["--out", "{tmp}/out.png", "--importance", "luck"], 2, "no importance estimator is called 'luck'"),
        (["--out", "{tmp}/out.png", "--protect", "FEC_50"], 2, "'FEC_50' is no protection scheme"),
        (["--out", "{tmp}/out.png", "--label", "1000"], 2, "1000 is not in the range"),
        (["--out", "{tmp}/out.png", "--label", "cat"], 2, "'cat' is not a valid integer"),
        (["--out", "{tmp}/out.png", "--rows", "5"], 2, "do not divide the 56 rows"),
        (["--out", "{tmp}/out.png", "--split", "conv9"], 2, "has no layer 'conv9'"),
        (["--out", "{tmp}/out.png", "--weights", "{tmp}/w.npz"], 1, "no weights at {tmp}/w.npz"),
    ],
)
def test_a_wrong_option_is_one_line_at_once(
    options: list[str], code: int, words: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setitem(sys.modules, "gradfec_lab.gradcam", None)  # no TensorFlow for any of these
    result = show(photo, *(option.format(tmp=tmp_path) for option in options))
    assert result.exit_code == code
    *usage, line = result.output.splitlines()
    assert words.format(tmp=tmp_path) in line
    assert line.lower().startswith("error: ")
    assert all(line.startswith(("Usage:", "Try ")) or not line for line in usage)


@pytest.mark.parametrize(
    ("contents", "words"), [(None, "cannot read"), (b"", "is empty"), (b"GIF89a no image", "not an image")]
)
def test_an_image_that_cannot_be_read_is_one_line_at_once(
    contents: bytes | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradfec_lab.gradcam", None)
    photo = tmp_path / "photo.png"
    if contents is not None:
        photo.write_bytes(contents)
    result = show(photo, "--out", tmp_path / "out.png")
    assert result.exit_code == 1
    assert result.output.startswith("error: ") and result.output.count("\n") == 1
    assert words in result.output and str(photo) in result.output
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_disk_that_does_not_take_the_figure_is_one_line(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"out.{suffix}"
    out.symlink_to("/dev/full")
    with pytest.raises(GradfecError, match=f"cannot write {out}: No space left on device"):
        save(draw(explanation(parse_scheme("none"), ("gradcam",)), "a.jpg"), out)


def test_help_teaches_without_loading_numpy_or_anything_heavier() -> None:
    script = (
        "import sys\nfrom gradfec_lab.cli import main\n"
        "try:\n    main(['show', '--help'])\n"
        "finally:\n    print(sorted({'numpy', 'matplotlib', 'cv2', 'tensorflow'} & {*sys.modules}), file=sys.stderr)\n"
    )
    environment = {**os.environ, "COLUMNS": "100"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert ended.stderr.strip() == "[]"
    for word in ("IMAGE", "--out", "--importance", "--protect", "--label", "--rows", "--split", "gradfec show cat.jpg"):
        assert word in ended.stdout


def test_a_photograph_is_explained_by_the_real_network(
    photo: Path, tmp_path: Path, oracle: GradCam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradfec_lab.gradcam.GradCam", lambda split, weights: oracle)  # built already
    out = tmp_path / "out.png"
    options = ("--protect", "FEC_40_60", "--importance", "activation", "--importance", "gradcam")
    result = show(photo, "--out", out, *options)
    assert result.exit_code == 0, result.output
    lossless, by_oracle, by_activation = result.stdout.splitlines()
    best = lossless.removeprefix("lossless: ").rpartition(" ")[0]
    assert best in ("Egyptian cat", "tabby", "tiger cat")
    assert by_oracle.startswith(f"FEC_40_60 by gradcam: still {best} ")
    assert by_activation.startswith("FEC_40_60 by activation: ")
    picture = cv2.imread(str(out))
    assert picture is not None
    height, width, _ = picture.shape
    assert height > 1000 and width > 1.2 * height
    shares = [(picture == np.array(colour)).all(axis=2).mean() for colour in ((0xD0,) * 3, (0xB2, 0x72, 0x00))]
    assert shares[0] > 0.05 and shares[1] > 0.1  # dropped, protected: of two panels of six
