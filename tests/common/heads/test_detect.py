"""Boxes are found in the outputs of every layout, and read from the link only if they are boxes."""

import json
import struct
from dataclasses import dataclass

import msgpack
import numpy as np
import pytest

from gradfec_common.heads import Boxes, Detect, agreement, head_of
from gradfec_common.heads.boxes import MOST, PACKED
from gradfec_common.heads.detect import LAYOUTS
from gradfec_common.heads.detect.layout import Candidates, Suppression, best_of
from gradfec_common.wire import MAX_ANSWER_BYTES, is_answer

SIZE = 96, 128  # height, width of the input
LABELS = ("person", "bicycle", "car")
# Left, top, right, bottom in pixels, the score and the class. The third is the second again, a little aside.
THINGS = ((8, 16, 40, 80, 0.9, 0), (64, 8, 120, 56, 0.8, 2), (64, 10, 120, 58, 0.6, 2), (66, 8, 120, 56, 0.5, 1))
FOUND = {"best": THINGS[:2], "by class": (*THINGS[:2], THINGS[3]), "all": THINGS}


@dataclass(frozen=True)
class Case:
    """Outputs of a network, (name, array) each, in which `THINGS` are, and which of them are to be found."""

    layout: str
    outputs: tuple[tuple[str, np.ndarray], ...]
    kept: str
    classes: int | None = 3

    @property
    def named(self) -> list[tuple[str, tuple[int, ...]]]:
        return [(name, array.shape) for name, array in self.outputs]

    @property
    def arrays(self) -> list[np.ndarray]:
        return [array for _, array in self.outputs]

    def head(self, **thresholds: float) -> Detect:
        """Return the head that a manifest would have for these outputs."""
        said = Detect.describe(self.named, self.arrays, SIZE)
        assert isinstance(said, dict), said
        assert said["layout"] == self.layout
        head = head_of(json.loads(json.dumps({"name": "detect", **said, **thresholds})), LABELS)
        assert isinstance(head, Detect)
        return head


def centred(left, top, right, bottom) -> list[float]:
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def yolo(objectness: bool, scale: float = 1.0) -> np.ndarray:
    """Return 40 candidates, of which four are there: (40, 4 or 5 + classes)."""
    table = np.zeros((40, 7 + objectness), np.float32)
    for at, (*place, score, kind) in zip((3, 7, 20, 30), THINGS, strict=True):
        table[at, :4] = np.array(centred(*place)) * scale
        table[at, -3:] = 0.01
        table[at, -3 + kind] = score
        if objectness:
            table[at, 4], table[at, -3 + kind] = 0.95, score / 0.95
    return table[np.newaxis]


def maps(sides: int, *, offset: bool = False, logits: bool = False) -> tuple[tuple[str, np.ndarray], ...]:
    """Return CenterNet's maps with 24 x 32 cells of 4 x 4 pixels."""
    heat = np.full((1, 3, 24, 32), 0.01, np.float32)
    extent = np.zeros((1, sides, 24, 32), np.float32)
    aside = np.zeros((1, 2, 24, 32), np.float32)
    for left, top, right, bottom, score, kind in reversed(THINGS):
        x, y, width, height = centred(left, top, right, bottom)
        column, row = int(x // 4), int(y // 4)
        heat[0, kind, row, column] = score
        if sides == 4:
            extent[0, :, row, column] = 4 * column - left, 4 * row - top, right - 4 * column, bottom - 4 * row
        else:
            extent[0, :, row, column] = width / 4, height / 4
        aside[0, :, row, column] = x / 4 - column, y / 4 - row
    heat = np.log(heat / (1 - heat)) if logits else heat
    return ("hm", heat), ("wh", extent), *([("reg", aside)] if offset else [])


def places(scale=(1.0, 1.0)) -> np.ndarray:
    return (np.array([thing[:4] for thing in THINGS]) / (scale * 2)).astype(np.float32)


def each_class(background: int) -> np.ndarray:
    scores = np.full((4, 3 + background), 0.01, np.float32)
    for row, (*_, score, kind) in zip(scores, THINGS, strict=True):
        row[background + kind] = score
        if background:
            row[0] += 1 - row.sum()
    return scores[np.newaxis]


SCORES = np.array([score for *_, score, _ in THINGS], np.float32)
KINDS = np.array([kind for *_, kind in THINGS])
END_TO_END = np.zeros((1, 10, 6), np.float32)
END_TO_END[0, :4] = THINGS
CASES = {
    # Two cars peak in the same cell: the better one, which is drawn last. Suppression is across classes.
    "four distances": Case("centernet", maps(4), "best"),
    "width, height and offset": Case("centernet", maps(2, offset=True), "best"),
    "logits": Case("centernet", maps(4, logits=True), "best"),
    "objectness": Case("yolov5", (("output0", yolo(True)),), "by class"),
    "fractions": Case("yolov8", (("output0", yolo(False, 1 / 128).swapaxes(1, 2)),), "by class"),
    "pixels": Case("yolov8", (("output0", yolo(False).swapaxes(1, 2)),), "by class"),
    "no suppression": Case("end-to-end", (("output0", END_TO_END),), "all", None),
    "softmax": Case("ssd", (("scores", each_class(1)), ("boxes", places((128, 96))[np.newaxis])), "by class"),
    "sigmoid": Case("ssd", (("boxes", places()[np.newaxis]), ("scores", each_class(0))), "by class"),
    "torchvision": Case("labelled", (("boxes", places()), ("labels", KINDS), ("scores", SCORES)), "all", None),
    "tensorflow": Case(
        "labelled",
        (
            ("detection_boxes", places((128, 96))[np.newaxis][..., [1, 0, 3, 2]]),
            ("detection_classes", KINDS[np.newaxis].astype(np.float32)),
            ("detection_scores", SCORES[np.newaxis]),
            ("num_detections", np.array([4.0], np.float32)),
        ),
        "all",
        None,
    ),
}
# In fractions of the input, the y of `fractions` is divided by 128, too.
HEIGHTS = {"fractions": 128}


@pytest.mark.parametrize("name", CASES)
def test_the_boxes_are_found_where_they_are(name):
    case = CASES[name]
    head = case.head()
    answer = head.answer(head.condense(case.arrays), LABELS)
    kept = FOUND[case.kept]
    assert [(one.class_index, one.label) for one in answer.found] == [(kind, LABELS[kind]) for *_, kind in kept]
    np.testing.assert_allclose([one.score for one in answer.found], [thing[4] for thing in kept], atol=1e-4)
    expected = np.array([thing[:4] for thing in kept]) / (128, HEIGHTS.get(name, 96), 128, HEIGHTS.get(name, 96))
    np.testing.assert_allclose([one.place for one in answer.found], expected, atol=1e-4)
    assert head.layout.classes == case.classes


def test_every_layout_has_a_case():
    assert {case.layout for case in CASES.values()} == {*LAYOUTS}


@pytest.mark.parametrize("name", CASES)
def test_thresholds_are_the_users(name):
    case = CASES[name]
    head = case.head(score=0.85)
    assert len(head.answer(head.condense(case.arrays), ()).found) == 1
    all_stay = case.head(iou=1.0)
    found = all_stay.answer(all_stay.condense(case.arrays), ()).found
    assert len(found) == (3 if case.layout == "centernet" else 4)  # its heatmap has one peak for both cars
    assert found[0].label == "class 0"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.torch
def test_the_scores_that_gradients_begin_at_are_those_of_the_candidates(name):
    torch = pytest.importorskip("torch")
    case = CASES[name]
    layout = case.head().layout
    scores = layout.all_scores([torch.from_numpy(array) for array in case.arrays]).numpy()
    expected = layout.candidates(case.arrays, 0.2).scores
    np.testing.assert_allclose(np.sort(scores[scores >= 0.2]), np.sort(expected), rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_boxes_come_back_as_they_were_through_a_result(name):
    case = CASES[name]
    head = case.head()
    answer = head.answer(head.condense(case.arrays), LABELS)
    packed = answer.packed()
    assert is_answer(packed)
    assert head.read(msgpack.unpackb(msgpack.packb(packed))) == answer
    assert agreement(answer, head.read(packed)) == 1


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["random", "huge", "negative", "zero"])
def test_any_finite_outputs_have_an_answer_that_fits(name, kind):
    case, rng = CASES[name], np.random.default_rng(5)
    scales = {"random": 3, "huge": 3e38, "negative": -3e38, "zero": 0}
    broken = [(rng.random(array.shape) * scales[kind]).astype(np.float32) for array in case.arrays]
    head = case.head()
    table = head.condense(broken)
    assert table.shape == (100, 6)
    assert is_answer(head.answer(table, LABELS).packed())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite_have_no_answer(name, bad):
    case = CASES[name]
    broken = [array.astype(np.float32) for array in case.arrays]
    broken[-1].flat[-1] = bad
    with pytest.raises(ValueError, match="overflows"):
        case.head().answer(case.head().condense(broken), LABELS)


def test_a_box_has_the_bytes_that_the_protocols_page_says():
    written = struct.pack(">6H", 2, 0x8000, 0, 0x4000, 0xFFFF, 0xC000)
    (box,) = HEAD.read(written).found
    assert (box.class_index, box.label, box.score) == (2, "car", 0x8000 / 65535)
    assert box.place == (0, 0x4000 / 65535, 1, 0xC000 / 65535)
    assert Boxes((box,)).packed() == written


def test_a_crowd_is_cut_off_where_the_answer_is_full():
    head = CASES["no suppression"].head()
    crowd = np.tile(np.array([[[8, 8, 64, 64, 0.9, 0]]], np.float32), (1, 300, 1))
    crowd[0, :, 4] -= np.arange(300) / 1000
    answer = head.answer(head.condense([crowd]), LABELS)
    assert len(answer.found) == MOST
    assert answer.found[-1].score == pytest.approx(0.9 - 0.079, abs=1e-4)
    assert len(msgpack.packb(answer.packed())) <= MAX_ANSWER_BYTES


def test_what_lies_outside_the_picture_is_cut_off_and_what_is_all_outside_is_not_there():
    head = CASES["no suppression"].head()
    rows = np.array([[[-64, -48, 64, 48, 0.9, 0], [130, 8, 200, 64, 0.8, 1], [64, 48, 64, 60, 0.7, 1]]], np.float32)
    (one,) = head.answer(head.condense([rows]), LABELS).found
    np.testing.assert_allclose(one.place, (0, 0, 0.5, 0.5), atol=1e-4)


@pytest.mark.parametrize("suppression", Suppression)
def test_suppression_is_that_of_a_plain_loop(suppression):
    rng = np.random.default_rng(8)
    corner, side = rng.random((200, 2)), rng.random((200, 2)) / 3
    places, scores, classes = np.hstack([corner, corner + side]), rng.random(200), rng.integers(0, 3, 200)

    def iou(one, other):
        both = max(min(one[2], other[2]) - max(one[0], other[0]), 0) * max(
            min(one[3], other[3]) - max(one[1], other[1]), 0
        )
        areas = [(place[2] - place[0]) * (place[3] - place[1]) for place in (one, other)]
        return both / (sum(areas) - both)

    kept = []
    for at in np.argsort(-scores):
        rivals = [] if suppression is Suppression.NONE else kept
        if suppression is Suppression.SAME_CLASS:
            rivals = [other for other in kept if classes[other] == classes[at]]
        if all(iou(places[at], places[other]) <= 0.3 for other in rivals):
            kept.append(at)
    best = best_of(Candidates(places, scores, classes), 0.3, suppression)
    np.testing.assert_array_equal(best.scores, scores[kept[:100]])


HEAD = CASES["pixels"].head()
GOOD = HEAD.answer(HEAD.condense(CASES["pixels"].arrays), LABELS).packed()


def packed(kind=0, score=1, place=(0, 0, 1, 1)) -> bytes:
    return np.array([(kind, score, place)], PACKED).tobytes()


@pytest.mark.parametrize(
    "untrusted",
    [
        *(None, 1, 1.5, True, "boxes", [], [GOOD], {}, {"boxes": GOOD}, bytearray(GOOD)),
        *(GOOD[:-1], GOOD + b"\0", (MOST + 1) * packed()),
        *(packed(kind=3), packed(kind=65535), packed(place=(1, 0, 1, 1)), packed(place=(0, 5, 1, 4))),
    ],
)
def test_anything_else_is_no_answer(untrusted):
    with pytest.raises(ValueError, match="not "):
        HEAD.read(untrusted)


def test_bytes_of_any_kind_are_boxes_or_refused():
    rng = np.random.default_rng(9)
    for _ in range(500):
        data = bytearray(GOOD if rng.random() < 0.5 else rng.bytes(int(rng.integers(0, 1024))))
        for at in rng.integers(0, max(len(data), 1), 3):
            data[at : at + 1] = rng.bytes(int(rng.integers(0, 3)))
        try:
            boxes = HEAD.read(bytes(data))
        except ValueError:
            continue
        assert isinstance(boxes, Boxes)
        assert boxes.packed() == bytes(data)


@pytest.mark.parametrize(
    ("outputs", "layout", "why"),
    [
        ({"logits": (1, 1000)}, "", "no detector's outputs are known that look like logits 1 x 1000"),
        ({"boxes": (1, 50, 4), "scores": (1, 49, 3)}, "", "no detector"),
        ({"output0": (1, 84, 8400)}, "yolov5", "yolov5 has one output"),
        ({"heatmap": (1, 3, 24, 32), "wh": (1, 3, 24, 32)}, "centernet", "centernet's extent has 4 or 2 channels"),
        ({"heatmap": (1, 3, 24, 32), "wh": (1, 4, 12, 16)}, "centernet", "of the same height and width"),
    ],
)
def test_outputs_of_another_kind_are_refused_with_the_reason(outputs, layout, why):
    trial = [np.zeros(dims, np.float32) for dims in outputs.values()]
    said = Detect.describe([*outputs.items()], trial, SIZE, layout)
    assert isinstance(said, str)
    assert why in said


@pytest.mark.parametrize(("scale", "unit"), [(1, (128, 96)), ([128, 96] * 2, (1, 1))])
def test_the_unit_of_places_is_that_of_most_of_them_and_rows_of_zeros_do_not_count(scale, unit):
    table = END_TO_END.copy()
    table[0, :, :4] /= scale
    table[0, 3, :4] = -5, -5, 500, 500  # far off
    said = Detect.describe([("output0", table.shape)], [table], SIZE)
    assert tuple(said["decode"]["unit"]) == unit
    nothing = np.zeros_like(table)
    assert tuple(Detect.describe([("output0", table.shape)], [nothing], SIZE)["decode"]["unit"]) == (128, 96)


def test_scores_that_are_no_probabilities_and_boxes_relative_to_anchors_are_refused():
    wild = np.full((1, 84, 8400), 5, np.float32)
    assert "scores from 0 to 1" in Detect.describe([("output0", wild.shape)], [wild], SIZE, "yolov8")
    boxes = np.tile(np.array([0.5, 0.5, -0.1, 0.2], np.float32), (1, 4, 1))
    outputs = [("boxes", boxes.shape), ("scores", (1, 4, 3))]
    assert "anchors" in Detect.describe(outputs, [boxes, each_class(0)], SIZE, "ssd")


@pytest.mark.parametrize(
    "change",
    [{"layout": "x"}, {"score": 0}, {"score": "nan"}, {"iou": 1.5}, {"decode": {}}, {"decode": {"classes": 3}}],
)
def test_a_manifest_that_was_changed_is_not_read(change):
    said = Detect.describe(CASES["pixels"].named, CASES["pixels"].arrays, SIZE)
    with pytest.raises((ValueError, KeyError, TypeError)):
        head_of({"name": "detect", **said, **change})
