"""Preprocessing is Keras's own for ResNet-50, on the whole frame."""

import cv2
import keras
import numpy as np
import pytest

from gradfec_common.heads import Box, Boxes
from gradfec_common.networks import Preprocess
from gradfec_common.networks.pixels import normalise
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.preprocess import seen_share, to_input


def test_normalise_is_exactly_keras_preprocess_input():
    images = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), np.uint8)
    expected = keras.applications.resnet50.preprocess_input(images.astype(np.float32))
    for batch, keras_batch in ((images, expected), (images[0], expected[0])):
        ours = normalise(batch, RESNET50.preprocess)
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, keras_batch)


@pytest.mark.parametrize("size", [(224, 224), (480, 640), (640, 480), (1, 1), (100, 2000)])
def test_a_frame_of_any_size_becomes_224_pixels_square(size):
    image = to_input(np.full((*size, 3), (10, 20, 30), np.uint8), RESNET50.preprocess)
    assert (image.shape, image.dtype) == ((224, 224, 3), np.uint8)
    assert image.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(image, np.broadcast_to(np.uint8([30, 20, 10]), image.shape))  # BGR -> RGB


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 4), (4, 1), (1, 8192), (8192, 1), (5, 8192), (8192, 6)])
def test_a_line_is_a_frame_too(fit, size):
    image = to_input(np.full((*size, 3), 9, np.uint8), Preprocess(224, 224, order="rgb", fit=fit))
    assert image.shape == (224, 224, 3)
    assert image.any()


def test_the_whole_frame_is_kept_without_cropping():
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[:, :320, 0] = 255  # left half blue
    frame[240:, :, 2] = 200  # lower half red
    image = to_input(frame, RESNET50.preprocess)
    assert (image[:, :110, 2] == 255).all() and (image[:, 114:, 2] == 0).all()
    assert (image[:110, :, 0] == 0).all() and (image[114:, :, 0] == 200).all()


def test_resizing_is_bicubic():
    frame = np.random.default_rng(2).integers(0, 256, (227, 227, 3), np.uint8)
    expected = cv2.cvtColor(cv2.resize(frame, (224, 224), interpolation=cv2.INTER_CUBIC), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(to_input(frame, RESNET50.preprocess), expected)


@pytest.mark.parametrize(
    "frame",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)],
)
def test_anything_but_a_frame_is_refused(frame):
    with pytest.raises(ValueError, match="a frame is uint8"):
        to_input(frame, RESNET50.preprocess)


def test_a_network_says_its_own_side_order_means_and_scale():
    preprocess = Preprocess(8, 8, order="rgb", means=(127.0, 127.0, 1.0), scales=(1 / 128,) * 3)
    image = to_input(np.full((5, 9, 3), (10, 20, 30), np.uint8), preprocess)
    assert image.shape == (8, 8, 3)
    ours = normalise(image, preprocess)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours[0, 0], [(30 - 127) / 128, (20 - 127) / 128, (10 - 1) / 128], rtol=1e-6)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(240, 400), (400, 240), (300, 300)])
def test_what_lies_somewhere_in_the_input_lies_in_the_frame_where_it_was(fit, size):
    preprocess = Preprocess(96, 128, order="rgb", fit=fit, keep=0.9 if fit == "crop" else 1.0)
    frame = np.zeros((*size, 3), np.uint8)
    top, left = size[0] // 2 - 40, size[1] // 2 - 50
    frame[top : top + 60, left : left + 70] = 255
    rows, columns = (np.flatnonzero(to_input(frame, preprocess)[..., 0].max(axis=axis) > 127) for axis in (1, 0))
    seen = columns[0] / 128, rows[0] / 96, (columns[-1] + 1) / 128, (rows[-1] + 1) / 96
    (found,) = Boxes((Box(0, "white", 1.0, seen),)).placed(seen_share(frame, preprocess)).found
    edges = np.array(found.place) * (size[1], size[0], size[1], size[0])
    np.testing.assert_allclose(edges, (left, top, left + 70, top + 60), atol=5)  # a pixel of the input
