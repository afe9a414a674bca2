"""`gradfec show`: what the figure shows is what the plan does; a wrong argument is one line before any slow work."""

from __future__ import annotations

import base64
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from tests.onnx_files import spotter, written

from gradfec_cli.cli import main
from gradfec_cli.experiment import Link
from gradfec_cli.explanation import Answer, Delivery, Explanation, Losses, Ranking, answer, kept, lost_by
from gradfec_cli.show import in_short
from gradfec_cli.show_figure import BARE as SENT_BARE
from gradfec_cli.show_figure import (
    CAME,
    DROPPED,
    GAP,
    MISSING,
    PROTECTED,
    RECOVERED,
    delivered,
    draw,
    draw_features,
    fates,
    is_data,
    mosaic,
    per_packet,
    ranks,
    save,
    title,
)
from gradfec_cli.show_page import page
from gradfec_cloud.labels import labels_of
from gradfec_common.codes import BARE, ZFEC, ErasureCode
from gradfec_common.delivery import packets_arrived, packets_at_hand
from gradfec_common.errors import GradfecError
from gradfec_common.heads import Box, Boxes, Classes
from gradfec_common.networks import Cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.protect import UNKNOWN_LINK, Group, Plan, Stripe, read_policy
from gradfec_common.quantisers import QUANTISERS
from gradfec_common.symbols import Packing
from gradfec_edge.coding import Coding
from gradfec_host.models.add import Wanted, add_model
from gradfec_host.models.graph import Graph
from gradfec_host.models.presets import preprocess_of

if TYPE_CHECKING:
    from gradfec_cli.gradcam import GradCam


def called(class_index: int, label: str, probability: float) -> Answer:
    return Answer(Classes(((class_index, label, probability),)))


GRID = PacketGrid((56, 56, 20), 7)  # 160 packets
SPLIT = Cut(RESNET50, 900, "conv2_block1_add", GRID.shape)
CAT, DOG = called(285, "Egyptian_cat", 0.8), called(207, "golden_retriever", 0.4)
LABELS = labels_of(RESNET50)
LONGEST = max(range(1000), key=lambda index: len(LABELS[index]))


def show(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["show", *map(str, arguments)])


def coded_by(policy: str) -> Coding:
    return Coding(SPLIT, GRID, QUANTISERS["uniform8"], read_policy(policy), packets_a_datagram=1)


def planned(policy: str, scores: np.ndarray) -> Plan:
    plan, _ = coded_by(policy).packets(np.ones(GRID.shape, np.float32), scores, None, UNKNOWN_LINK)
    return plan


def explanation(policy: str, estimators: tuple[str, ...] = ("gradcam", "activation")) -> Explanation:
    rng = np.random.default_rng(1)
    scores = [rng.random(GRID.count).astype(np.float32) for _ in estimators]
    rankings = [Ranking(name, s, planned(policy, s), CAT) for name, s in zip(estimators, scores, strict=True)]
    image = rng.integers(0, 256, (224, 224, 3)).astype(np.uint8)
    chi = rng.normal(size=GRID.shape).astype(np.float32)
    return Explanation(image, chi, coded_by(policy), CAT, CAT, rankings)


def over_a_link(shown: Explanation, link: Link, then: Answer) -> Explanation:
    """The same with a link, after which the answer is another."""
    lost = lost_by(link, GRID.count)
    rankings = [
        replace(
            one,
            delivery=Delivery(packets_arrived(one.plan, ~lost), packets_at_hand(one.plan, ~lost), then),
        )
        for one in shown.rankings
    ]
    return replace(shown, rankings=rankings, losses=Losses(link, lost, then))


def group(n: int, code: ErasureCode, *packets: int) -> Group:
    """A group of one stripe, with a packet in each data symbol."""
    return Group(n, (Stripe(np.array(packets), Packing(np.arange(len(packets) + 1), 8), code),))


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


def test_features_below_zero_have_colours_of_their_own_where_the_back_end_sees_them() -> None:
    drawn = {}
    for cut in (RESNET50.cut("conv2_block1_add"), RESNET50.cut("conv1_pad")):
        shown = explanation("FEC_50_50")
        axis = Figure().subplots()
        draw_features(axis, replace(shown, coding=replace(shown.coding, cut=cut)))
        (picture,) = axis.images
        drawn[cut.rectified] = picture
    assert drawn[True].get_clim()[0] == drawn[True].get_array().min() == 0
    bottom, top = drawn[False].get_clim()
    assert -bottom == top > 0 > drawn[False].get_array().min()
    np.testing.assert_allclose(drawn[False].get_cmap()(0.5)[:3], 1, atol=0.05)  # zero is white


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
    plan = Plan(6, np.array([4, 0]), (group(3, ZFEC, 5, 1), group(1, BARE, 2), group(1, ZFEC, 3)))
    assert fates(plan).tolist() == [DROPPED, PROTECTED, SENT_BARE, SENT_BARE, DROPPED, PROTECTED]


def test_what_is_kept_is_all_but_what_the_plan_drops() -> None:
    plan = planned("FEC_50_50", np.arange(GRID.count, dtype=np.float32))
    assert kept(plan).tolist() == [False] * 80 + [True] * 80


def test_a_packet_that_is_sent_arrives_or_is_recovered_or_is_missing() -> None:
    plan = Plan(6, np.array([4, 0]), (group(3, ZFEC, 5, 1), group(3, ZFEC, 2, 3)))
    lost = np.zeros(6, bool)
    arrived = packets_arrived(plan, ~lost)
    assert delivered(plan, Delivery(arrived, packets_at_hand(plan, ~lost), CAT)).tolist() == [
        DROPPED, CAME, CAME, CAME, DROPPED, CAME,
    ]  # fmt: skip
    # the second group loses one data symbol, and the first both: parity gives back one, and cannot give back two
    came = np.array([False, False, True, False, False, False])
    at_hand = np.array([False, False, True, True, False, False])
    assert delivered(plan, Delivery(came, at_hand, CAT)).tolist() == [
        DROPPED, MISSING, CAME, RECOVERED, DROPPED, MISSING,
    ]  # fmt: skip


def test_the_same_link_loses_the_same_datagrams_in_bursts_if_asked_to() -> None:
    link = Link(0.3, 8, seed=5)
    lost = lost_by(link, 20_000)
    assert (lost == lost_by(link, 20_000)).all()
    assert (lost != lost_by(replace(link, seed=6), 20_000)).any()
    assert 0.25 < lost.mean() < 0.35
    assert 6 < lost.sum() / (lost[1:] & ~lost[:-1]).sum() < 10
    assert not lost_by(Link(0.0, 8), 100).any()


def test_datagrams_with_packets_go_before_those_of_parity_alone() -> None:
    plan = planned("FEC_40_60", np.arange(GRID.count, dtype=np.float32))
    assert is_data(plan).tolist() == [True] * 96 + [False] * 64
    assert is_data(planned("nested:80,120/150", np.arange(GRID.count, dtype=np.float32))).sum() == 120


def test_an_answer_is_the_likeliest_class_or_the_one_asked_for_with_its_share_of_all() -> None:
    logits = np.full(1000, -1000, np.float32)
    logits[[285, 207]] = 900 + np.log([3, 1])
    assert str(answer(logits, LABELS)) == "Egyptian cat 0.75"
    assert str(answer(logits, LABELS, 207)) == "golden retriever 0.25"
    assert str(answer(logits, (), 207)) == "class 207 0.25"  # of a network without labels


def titles(figure: Figure) -> list[str]:
    return [axis.get_title().partition("\n")[0] for axis in figure.axes if axis.get_title()]


SHARED = ["The photograph, as the network sees it: 224 x 224", "Its features, from the layers on the edge: 20 channels"]
GRADIENT = "Which features matter, by the network's own gradient"
EDGE = "Which features matter, as the edge estimates it"
SENDS, HAS = "What FEC_40_60 sends of them", "What the cloud has after the losses"
LOSES = "What the link loses, datagram by datagram"


@pytest.mark.parametrize("full", [False, True])
def test_without_a_link_a_ranking_has_its_importance_and_its_plan(full: bool) -> None:
    figure = draw(explanation("FEC_40_60", ("gradcam", "activation", "random")), "cat.jpg", full)
    plain = [f"{EDGE} (activation)", SENDS, f"{EDGE} (random)", SENDS]
    assert titles(figure) == [*SHARED, GRADIENT, *([SENDS] if full else []), *plain]
    panel = next(axis for axis in figure.axes if axis.get_title().startswith(SENDS))
    assert panel.get_title().endswith("\nnothing lost: still Egyptian cat 0.80")
    legend = panel.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["dropped by plan: 64", "protected: 96", "sent bare: 0"]


def test_by_default_there_are_six_panels_in_words_and_in_full_nine() -> None:
    shown = over_a_link(explanation("FEC_40_60"), Link(0.45, 4, 2), DOG)
    of_the_edge = [f"{EDGE} (activation)", SENDS, HAS]
    assert titles(draw(shown, "cat.jpg")) == [*SHARED, GRADIENT, *of_the_edge]
    assert titles(draw(shown, "cat.jpg", full=True)) == [*SHARED, LOSES, GRADIENT, SENDS, HAS, *of_the_edge]
    alone = over_a_link(explanation("FEC_40_60", ("gradcam",)), Link(0.45, 4, 2), DOG)
    assert titles(draw(alone, "cat.jpg")) == [*SHARED, GRADIENT, SENDS, HAS]


def test_with_a_link_panels_count_what_is_lost_and_what_arrives() -> None:
    shown = over_a_link(explanation("FEC_50_50"), Link(0.45, 4, 2), DOG)
    figure = draw(shown, "cat.jpg", full=True)
    panels = [axis for axis in figure.axes if axis.get_title().startswith((LOSES, HAS))]
    after = f"{HAS}\nnow golden retriever 0.40"
    assert [axis.get_title() for axis in panels] == [f"{LOSES}\n45 % loss in bursts of 4", after, after]

    assert shown.losses is not None
    lost = int(shown.losses.lost.sum())
    counts = [
        {text.get_text().partition(": ")[0]: int(text.get_text().partition(": ")[2]) for text in legend.get_texts()}
        for axis in panels
        if (legend := axis.get_legend())
    ]
    assert counts[0]["lost"] == lost and sum(counts[0].values()) == 160
    for of_ranking in counts[1:]:
        assert of_ranking["dropped by plan"] == 80 and sum(of_ranking.values()) == 160
        assert of_ranking["arrived"] == counts[0]["data arrived"]
    assert title(shown, "cat.jpg").endswith("\nwithout protection, 45 % loss in bursts of 4: now golden retriever 0.40")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("over", [None, Link(0.333, 12.5)])
@pytest.mark.parametrize("estimators", [("gradcam",), ("gradcam", "activation", "random")])
def test_no_panel_with_its_words_overlaps_another_or_leaves_the_figure(
    estimators: tuple[str, ...], over: Link | None, full: bool
) -> None:
    shown = explanation("FEC_12.5_87.5", estimators)
    if over is not None:
        shown = over_a_link(shown, over, called(LONGEST, LABELS[LONGEST], 0.5))
    answer = called(LONGEST, LABELS[LONGEST], 0.5)
    shown = replace(shown, rankings=[replace(ranking, answer=answer) for ranking in shown.rankings])
    check_that_nothing_overlaps(draw(shown, "cat.jpg", full))


def test_nor_do_they_if_a_detector_finds_much() -> None:
    boxes = Answer(Boxes((Box(0, "American_Staffordshire_terrier", 0.5, (0.25, 0.5, 0.75, 1.0)),) * 116))
    shown = over_a_link(explanation("FEC_12.5_87.5", ("activation",)), Link(0.333, 12.5), boxes)
    shown = replace(shown, lossless=boxes, explained=boxes, rankings=[replace(shown.rankings[0], answer=boxes)])
    check_that_nothing_overlaps(draw(shown, "cat.jpg"))


def check_that_nothing_overlaps(figure: Figure) -> None:
    figure.draw_without_rendering()
    panels = [axis for axis in figure.axes if axis.get_title()]
    boxes = [axis.get_tightbbox() for axis in panels] + [text.get_window_extent() for text in figure.texts]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)


def test_without_protection_all_packets_are_bare() -> None:
    figure = draw(explanation("none"), "cat.jpg")
    (panel,) = (axis for axis in figure.axes if axis.get_title().startswith("What none sends"))
    legend = panel.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["dropped by plan: 0", "protected: 0", "sent bare: 160"]


def test_the_words_say_whether_the_answer_stood_and_which_class_is_explained() -> None:
    shown = explanation("none")
    fell = Ranking("random", shown.rankings[0].scores, shown.rankings[0].plan, DOG)
    assert shown.verdict(shown.rankings[0].answer) == "still Egyptian cat 0.80"
    assert shown.verdict(fell.answer) == "now golden retriever 0.40"
    assert title(shown, "a.jpg") == "a.jpg: lossless answer Egyptian cat 0.80"
    assert title(replace(shown, explained=DOG), "a.jpg").endswith(", importance for golden retriever 0.40")


@pytest.mark.parametrize("name", ["$a_{b.jpg", "\udcff.jpg", "猫.jpg", 300 * "n"])
@pytest.mark.filterwarnings("error")
def test_any_name_of_a_file_can_stand_in_the_title(name: str, tmp_path: Path) -> None:
    figure = draw(explanation("none", ("gradcam",)), name)
    for suffix in ("png", "svg", "PDF"):
        save(figure, tmp_path / f"out.{suffix}")
        assert (tmp_path / f"out.{suffix}").stat().st_size > 10_000


class Page(HTMLParser):
    """What a page refers to, its pictures and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[tuple[str, bytes]] = []  # alternative text, content
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            kind, _, data = str(found["src"]).partition(",")
            assert kind == "data:image/png;base64"
            self.pictures.append((str(found["alt"]), base64.b64decode(data)))
        else:
            self.links += [str(value) for name, value in attrs if name in {"href", "src"}]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_needs_nothing_else_and_says_in_words_what_each_picture_shows() -> None:
    shown = over_a_link(explanation("FEC_50_50"), Link(0.3, None, 2), DOG)
    text = page(shown, "<b>cat & dog</b>.jpg", full=True)
    found = Page(text)
    assert not found.links and "://" not in text and "<script" not in text
    assert len(found.pictures) == 2 + 1 + 2 * 3
    for alternative, content in found.pictures:
        assert len(alternative) > 40
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None and min(picture.shape[:2]) > 300
    assert len({alternative for alternative, _ in found.pictures}) == 9
    for words in (
        "<b>cat & dog</b>.jpg", "all packets without protection, 30 % loss", "now golden retriever 0.40", "160 in all",
        "FEC_50_50 by the edge's estimate (activation), nothing lost", "drawn with seed 2", GRADIENT, EDGE,
    ):  # fmt: skip
        assert words in found.words
    assert shown.losses is not None
    assert any(f"{int(shown.losses.lost.sum())} of them" in alternative for alternative, _ in found.pictures)


def test_without_a_link_the_page_has_none() -> None:
    found = Page(page(explanation("none"), "cat.jpg", full=True))
    assert len(found.pictures) == 2 + 2 * 2
    assert "The link" not in found.words


def test_the_page_has_the_six_pictures_of_the_figure() -> None:
    found = Page(page(over_a_link(explanation("FEC_50_50"), Link(0.3, None, 2), DOG), "cat.jpg"))
    assert len(found.pictures) == 2 + 1 + 3
    assert GRADIENT in found.words and EDGE in found.words
    assert "The link" not in found.words


def test_one_sentence_says_what_protection_is_worth() -> None:
    shown = explanation("FEC_40_60")
    assert in_short(shown) == (
        "in short: with 96 of 160 packets, as FEC_40_60 sends them, the answer is still Egyptian cat 0.80"
    )
    lossy = over_a_link(shown, Link(0.5, 8), CAT)
    assert lossy.losses is not None
    assert in_short(replace(lossy, losses=replace(lossy.losses, bare=DOG))) == (
        "in short: over a link with 50 % loss in bursts of 8, the answer is now golden retriever 0.40 without "
        "protection, and still Egyptian cat 0.80 with FEC_40_60"
    )


def test_what_a_detector_finds_is_drawn_on_the_photograph_before_the_losses_and_after_them() -> None:
    cup = Box(41, "cup", 0.5, (0.25, 0.5, 0.75, 1.0))
    found, left = Answer(Boxes((cup, cup._replace(class_index=0, label="person")))), Answer(Boxes((cup,)))
    shown = over_a_link(explanation("FEC_40_60", ("activation",)), Link(0.45, 4, 2), left)
    shown = replace(shown, lossless=found, explained=found)
    figure = draw(shown, "cat.jpg")
    assert titles(figure) == [*SHARED, "What it finds after the losses", f"{EDGE} (activation)", SENDS, HAS]
    photograph, _, after, *_ = (axis for axis in figure.axes if axis.get_title())
    assert after.get_title().endswith("\n1 box, F1 0.67")
    for axis, labels in ((photograph, ["person 0.50", "cup 0.50"]), (after, ["cup 0.50"])):
        drawn = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
        assert [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in drawn] == [
            (56, 112, 112, 112) for _ in labels
        ]
        assert [text.get_text() for text in axis.texts] == labels
    assert shown.verdict(found) == "2 boxes, F1 1.00"
    assert in_short(shown).endswith(
        "the answer is 1 box, F1 0.67 without protection, and 1 box, F1 0.67 with FEC_40_60"
    )
    pictures = Page(page(shown, "cat.jpg")).pictures
    assert any("what the cloud has in the end: cup 0.50." in alternative for alternative, _ in pictures)


# --- the command ---


@pytest.fixture
def photo(photographs: Path) -> Path:
    return photographs / "chelsea.png"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--out", "{tmp}/out.jpg"], 2, "its name must end in one of .png, .svg, .pdf, .html"),
        (["--out", "{tmp}/out"], 2, "is not a figure"),
        (["--out", "{tmp}/missing/out.png"], 1, "there is no folder {tmp}/missing"),
        (["--out", "{tmp}/folder.png"], 1, "it is a folder"),
        (["--out", "{tmp}/out.png", "--loss", "130%"], 2, "'130%' is not a share of the datagrams"),
        (["--out", "{tmp}/out.png", "--loss", "50%", "--burst", "0.5"], 2, "'0.5' is not a number of datagrams"),
        (["--out", "{tmp}/out.png", "--loss", "90%", "--burst", "2"], 2, "is impossible"),
        (["--out", "{tmp}/out.png", "--fec", "raptor"], 2, "raptor"),
        (["--out", "{tmp}/out.png", "--importance", "luck"], 2, "no importance estimator is called 'luck'"),
        (["--out", "{tmp}/out.png", "--protect", "FEC_50"], 2, "'FEC_50' is no protection policy"),
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
    monkeypatch.setitem(sys.modules, "gradfec_cli.gradcam", None)  # no TensorFlow for any of these
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
    monkeypatch.setitem(sys.modules, "gradfec_cli.gradcam", None)
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
        save(draw(explanation("none", ("gradcam",)), "a.jpg"), out)


def test_a_photograph_is_explained_by_the_real_network(
    photo: Path, tmp_path: Path, oracle: GradCam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradfec_cli.gradcam.GradCam", lambda split, weights: oracle)  # built already
    out = tmp_path / "out.png"
    options = ("--protect", "FEC_40_60", "--importance", "activation", "--importance", "gradcam")
    result = show(photo, "--out", out, *options, "--loss", "30%", "--burst", "1", "--full")
    assert result.exit_code == 0, result.output
    lossless, unprotected, by_oracle, oracle_lossy, by_activation, activation_lossy, _ = result.stdout.splitlines()
    best = lossless.removeprefix("lossless: ").rpartition(" ")[0]
    assert best in ("Egyptian cat", "tabby", "tiger cat")
    assert by_oracle.startswith(f"FEC_40_60 by gradcam: still {best} ")
    assert by_activation.startswith("FEC_40_60 by activation: ")
    # at 30 % loss FEC_40_60 gives everything back, so that the answer is the plan's own; sent bare it is another
    assert oracle_lossy == by_oracle.replace("FEC_40_60 by gradcam", "  30 % loss")
    assert activation_lossy == by_activation.replace("FEC_40_60 by activation", "  30 % loss")
    assert unprotected.startswith("without protection, 30 % loss: ") and not unprotected.endswith(
        lossless.rpartition(" ")[2]
    )
    picture = cv2.imread(str(out))
    assert picture is not None
    height, width, _ = picture.shape
    assert height > 2000 and width > 0.8 * height
    shares = [(picture == np.array(colour)).all(axis=2).mean() for colour in ((0xD0,) * 3, (0xB2, 0x72, 0x00))]
    assert shares[0] > 0.05 and shares[1] > 0.1  # dropped, protected and arrived: of five panels of nine
    monkeypatch.chdir(tmp_path)
    assert show(photo, "--loss", "0", *options).exit_code == 0
    small = cv2.imread(str(tmp_path / f"{photo.stem}-show.png"))
    assert small is not None and small.shape[0] < height


@pytest.fixture
def spotting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """Arguments to show a picture with a white square to a network that was added, without TensorFlow."""
    monkeypatch.setenv("GRADFEC_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "gradfec_cli.gradcam", None)  # no TensorFlow
    path = written(spotter(), tmp_path / "spotter.onnx")
    add_model(path, Graph.read(path), Wanted("spotter", preprocess_of("unit", (64, 64)), ("white",)))
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[16:32, 32:48] = 255
    cv2.imwrite(str(tmp_path / "square.png"), frame)
    return tmp_path / "square.png", "--model", "spotter", "--out", tmp_path / "out.png"


@pytest.mark.torch
def test_a_network_that_was_added_is_shown_with_its_gradient_by_pytorch(spotting: tuple[object, ...]) -> None:
    pytest.importorskip("torch")
    result = show(*spotting, "--protect", "none", "--loss", "0", "--importance", "activation")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "lossless",
        "none by gradcam",
        "none by activation",
        "in short",
    ]
    alone = show(*spotting, "--protect", "none", "--loss", "0", "--importance", "gradcam")
    assert alone.stdout.splitlines()[:2] == lines[:2]


def test_a_network_that_was_added_is_shown_without_a_gradient_if_pytorch_is_missing(
    tmp_path: Path, spotting: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    options = spotting
    result = show(*options, "--protect", "none", "--loss", "0", "--importance", "activation")
    assert result.exit_code == 0, result.output
    assert "no Grad-CAM: PyTorch is not installed: pip install torch" in result.stderr
    lossless, planned_by, no_gradient, _ = result.stdout.splitlines()
    assert lossless.startswith("lossless: white 1.00")
    assert planned_by == "none by activation: 1 box, F1 1.00"
    assert no_gradient == "spotter has no gradient here: which features really matter is not shown"
    assert (tmp_path / "out.png").stat().st_size > 10_000
    for option, value, says in (
        ("--importance", "gradcam", "PyTorch is not installed: pip install torch; or leave out --importance gradcam"),
        ("--label", "1", "spotter was added: --label and --weights are for networks that are built in"),
    ):
        result = show(*options, option, value)
        assert (result.exit_code, result.output.count("\n")) == (2, 1)
        assert result.output.startswith(f"error: {says}")
