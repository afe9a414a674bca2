"""Pictures of packets: which pixel stands for which packet, in which colour."""

import base64
import dataclasses
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from tests.web.world import base64_of

from gradfec_common.cells import Cell
from gradfec_web.paint import (
    CELLS_PALETTE,
    COLOURS,
    GAP,
    IMPORTANCE_PALETTE,
    NO_TILE,
    band_importance,
    draw_boxes,
    draw_cells,
    draw_importance,
    draw_veil,
    tiles,
)
from gradfec_web.view import Picture

SHAPES = [(256, 8), (256, 56), (256, 1), (512, 4), (64, 8), (2048, 1), (1, 1), (3, 7), (2, 100)]


def picture(cells, importance=None):
    channels, groups = cells.shape
    return Picture(
        "kitchen", 1, 7, channels, groups, base64_of(cells), "" if importance is None else base64_of(importance)
    )


def pixels(uri):
    start = "data:image/png;base64,"
    assert uri.startswith(start)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(start)))).convert("RGBA"))


@pytest.mark.parametrize(("channels", "groups"), SHAPES)
def test_each_packet_has_as_many_pixels_as_each_other_one(channels, groups):
    values = np.arange(channels * groups).reshape(channels, groups) % 200
    laid = tiles(values.astype(np.uint8))
    counts = np.bincount(laid.ravel(), minlength=256)
    packets = np.bincount(values.ravel(), minlength=256)
    area = counts[:200].sum() / (channels * groups)
    assert np.array_equal(counts[:200], packets[:200] * area)
    assert 0.5 < laid.shape[0] / laid.shape[1] <= 1 or channels < 4


def test_channels_lie_in_rows_and_their_packets_from_top_to_bottom():
    values = np.arange(5 * 2).reshape(5, 2).astype(np.uint8)  # 3 tiles a row, two rows
    laid = tiles(values)
    side = (laid.shape[1] + GAP) // 3
    assert [laid[0, side * n] for n in range(3)] == [0, 2, 4]
    assert [laid[side - GAP - 1, side * n] for n in range(3)] == [1, 3, 5]
    assert [laid[side, side * n] for n in range(3)] == [6, 8, NO_TILE]
    assert laid[0, side - 1] == NO_TILE


def test_cells_have_the_colours_of_the_legend():
    cells = np.array([[cell] for cell in Cell], np.uint8)
    image = pixels(draw_cells(picture(cells)))
    for cell in Cell:
        colour = [*bytes.fromhex(COLOURS[cell][1:].ljust(8, "f"))]
        assert (image == colour).all(axis=2).any(), cell
        assert CELLS_PALETTE[cell].tolist() == colour


def test_the_style_sheet_has_the_same_colours():
    from pathlib import Path

    import gradfec_web

    style = (Path(gradfec_web.__file__).parent / "style.css").read_text()
    for cell, colour in COLOURS.items():
        assert f"--{cell.name.lower()}: {colour};" in style


def test_one_fate_can_be_singled_out():
    cells = np.array([[Cell.PROTECTED], [Cell.LOST]], np.uint8)
    image = pixels(draw_cells(picture(cells), Cell.LOST))
    assert image[0, 0, 3] < 64
    assert image[0, -1].tolist() == [*bytes.fromhex(COLOURS[Cell.LOST][1:]), 255]


def test_importance_is_dark_to_bright_and_the_gaps_are_nothing():
    image = pixels(draw_importance(picture(np.zeros((2, 2)), np.array([[0, 80], [160, 255]]))))
    light = [int(image[y, x, :3].sum()) for x in (0, -1) for y in (0, -1)]
    assert light == sorted(light) and light[0] < 30 and light[-1] > 600
    assert IMPORTANCE_PALETTE[NO_TILE, 3] == 0
    assert image[0, image.shape[1] // 2, 3] == 0


def test_a_photograph_is_darkened_where_its_band_matters_little():
    important = np.array([[0, 100, 200], [0, 100, 200]])
    shown = picture(np.zeros((2, 3)), important)
    assert band_importance(shown).tolist() == [0, 0.5, 1]
    veil = pixels(draw_veil(shown))
    assert veil.shape == (3, 1, 4)
    assert veil[0, 0, 3] > veil[1, 0, 3] > veil[2, 0, 3] == 0


def test_if_all_packets_matter_equally_no_band_is_darkened():
    shown = picture(np.zeros((2, 3)), np.full((2, 3), 9))
    assert not pixels(draw_veil(shown))[..., 3].any()


def test_boxes_are_drawn_where_they_are_with_a_label_that_is_never_markup():
    found = [("<b>&cup", 0.46, (0.25, 0.5, 0.75, 1.0)), ("traffic_light", 0.9, (0, 0, 1, 0.1))]
    uri = draw_boxes(dataclasses.replace(picture(np.zeros((2, 2))), boxes=found), ratio=2.0)
    svg = ElementTree.fromstring(base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,")))
    assert svg.get("viewBox") == "0 0 480.00 240.00"
    frames = [one for one in svg if one.get("fill") == "none"]
    assert [[float(one.get(name)) for name in ("x", "y", "width", "height")] for one in frames] == [
        [0, 0, 480, 24],
        [120, 120, 240, 120],  # the best one comes last, and so lies on top
    ]
    texts = [one for one in svg if one.tag.endswith("text")]
    assert [one.text for one in texts] == ["traffic light 90\N{NO-BREAK SPACE}%", "<b>&cup 46\N{NO-BREAK SPACE}%"]
    assert all(0 < float(one.get("y")) < 240 for one in texts)
    assert not [*texts[1]]


def test_a_picture_whose_numbers_do_not_fit_is_an_error():
    with pytest.raises(ValueError, match="reshape"):
        draw_cells(dataclasses.replace(picture(np.zeros((2, 2))), channels=3))
