"""Each LiteRT operation computes what numpy computes."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from gradfec_host.litert_graph import RELU, Graph
from gradfec_host.quiet import quiet_stderr

RNG = np.random.default_rng(7)


def run(build, *inputs):
    """Return what a graph makes of its inputs: `build(graph, *tensors)` adds its operations."""
    graph = Graph()
    tensors = [graph.input(f"input_{n}", x.shape) for n, x in enumerate(inputs)]
    out = build(graph, *tensors)
    with quiet_stderr():
        model = Interpreter(model_content=graph.model([out]))
        model.allocate_tensors()
    for details, x in zip(model.get_input_details(), inputs, strict=True):
        model.set_tensor(details["index"], x)
    model.invoke()
    found = model.get_tensor(model.get_output_details()[0]["index"])
    assert found.shape == out.shape, "the shape that the graph was told is the runtime's"
    return found


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def convolved(x, kernel, bias, strides, padding):
    """Convolve (1, H, W, in) by the definition; `same` pads as TensorFlow does, more below and to the right."""
    height, width, _, filters = kernel.shape
    if padding == "same":
        sides = ((x.shape[1], height), (x.shape[2], width))
        extra = [max((-(-side // strides) - 1) * strides + size - side, 0) for side, size in sides]
        x = np.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in extra), (0, 0)))
    down, across = ((x.shape[axis] - size) // strides + 1 for axis, size in ((1, height), (2, width)))
    out = np.zeros((1, down, across, filters), np.float32)
    for i, j in np.ndindex(down, across):
        window = x[0, i * strides : i * strides + height, j * strides : j * strides + width]
        out[0, i, j] = np.tensordot(window, kernel, 3) + bias
    return out


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("size", "strides"), [((1, 1), 1), ((3, 3), 1), ((3, 3), 2), ((7, 7), 2), ((1, 1), 2)])
def test_convolution(size, strides, padding):
    x, kernel, bias = noise(1, 12, 9, 4), noise(*size, 4, 5), noise(5)
    expected = convolved(x, kernel, bias, strides, padding)
    found = run(lambda graph, image: graph.convolution(image, kernel, bias, strides, padding), x)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    rectified = run(lambda graph, image: graph.convolution(image, kernel, bias, strides, padding, RELU), x)
    np.testing.assert_allclose(rectified, np.maximum(expected, 0), atol=1e-4)


@pytest.mark.parametrize(("strides", "channels", "filters"), [(2, 4, 3), (2, 1, 5), (3, 5, 2), (1, 3, 4)])
def test_an_enlarging_convolution_makes_a_square_of_each_pixel(strides, channels, filters):
    x, kernel, bias = noise(1, 4, 3, channels), noise(strides, strides, filters, channels), noise(filters)
    expected = np.zeros((1, 4 * strides, 3 * strides, filters), np.float32)
    for i, j in np.ndindex(4, 3):
        square = kernel @ x[0, i, j] + bias  # (strides, strides, filters)
        expected[0, i * strides : (i + 1) * strides, j * strides : (j + 1) * strides] = square
    found = run(lambda graph, image: graph.enlarging_convolution(image, kernel, bias, strides), x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    rectified = run(lambda graph, image: graph.enlarging_convolution(image, kernel, bias, strides, RELU), x)
    np.testing.assert_allclose(rectified, np.maximum(expected, 0), atol=1e-5)


def test_an_enlarging_convolution_whose_windows_overlap_is_our_own_bug():
    graph = Graph()
    image = graph.input("image", (1, 4, 4, 2))
    with pytest.raises(AssertionError, match="windows overlap"):
        graph.enlarging_convolution(image, noise(3, 3, 5, 2), noise(5), 2)


@pytest.mark.parametrize("shape", [(1, 6), (1, 4, 3, 6)])
def test_dense_keeps_the_axes_before_the_last(shape):
    x, kernel, bias = noise(*shape), noise(6, 5), noise(5)
    found = run(lambda graph, rows: graph.dense(rows, kernel, bias), x)
    np.testing.assert_allclose(found, x @ kernel + bias, atol=1e-5)


def test_pooling_takes_the_largest_or_the_mean_of_windows():
    x = noise(1, 8, 6, 3)
    overlapping = run(lambda graph, image: graph.pool(image, (3, 3), (2, 2)), x)
    expected = np.array([[x[0, i : i + 3, j : j + 3].max((0, 1)) for j in (0, 2)] for i in (0, 2, 4)])
    np.testing.assert_allclose(overlapping[0], expected)
    means = run(lambda graph, image: graph.pool(image, (4, 3), (4, 3), mean=True), x)
    np.testing.assert_allclose(means[0], x[0].reshape(2, 4, 2, 3, 3).mean((1, 3)), atol=1e-6)


def test_arithmetic_broadcasts_arrays():
    x, row, square = noise(1, 3, 4, 5), noise(5), noise(1, 1, 1, 5)
    np.testing.assert_allclose(run(lambda graph, a: graph.add(a, row), x), x + row, atol=1e-6)
    np.testing.assert_allclose(run(lambda graph, a: graph.add(a, row, RELU), x), np.maximum(x + row, 0), atol=1e-6)
    np.testing.assert_allclose(run(lambda graph, a: graph.multiply(a, row), x), x * row, atol=1e-6)
    np.testing.assert_allclose(run(lambda graph, a, b: graph.add(a, b), x, square), x + square, atol=1e-6)
    np.testing.assert_allclose(run(lambda graph, a, b: graph.multiply(a, b), x, square), x * square, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda graph, x: graph.relu(x), lambda x: np.maximum(x, 0)),
        (lambda graph, x: graph.log(x), np.log),
        (lambda graph, x: graph.sqrt(x), np.sqrt),
        (lambda graph, x: graph.pad(x, 2), lambda x: np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))),
        (lambda graph, x: graph.over_image(x, mean=True), lambda x: x.mean((1, 2))),
        (lambda graph, x: graph.over_image(x, mean=False), lambda x: x.max((1, 2))),
        (lambda graph, x: graph.sum_over(x, 2), lambda x: x.sum(2)),
        (lambda graph, x: graph.reshape(x, (4, 15)), lambda x: x.reshape(4, 15)),
        (lambda graph, x: graph.transpose(x, (0, 3, 1, 2)), lambda x: x.transpose(0, 3, 1, 2)),
        (lambda graph, x: graph.enlarge(x, 6, 8), lambda x: x.repeat(2, 1).repeat(2, 2)),
        (lambda graph, x: graph.concatenate([x, graph.relu(x)]), lambda x: np.concatenate([x, np.maximum(x, 0)], -1)),
    ],
)
def test_operations_of_one_image(build, expected):
    x = np.abs(noise(1, 3, 4, 5)) + np.float32(0.1)
    np.testing.assert_allclose(run(build, x), expected(x), atol=1e-6)


def test_relu_cuts_what_is_negative():
    x = noise(1, 3, 4, 5)
    np.testing.assert_array_equal(run(lambda graph, a: graph.relu(a), x), np.maximum(x, 0))


def test_softmax_gives_shares():
    x = noise(1, 9) * 5
    np.testing.assert_allclose(run(lambda graph, a: graph.softmax(a), x), np.exp(x) / np.exp(x).sum(), atol=1e-6)


def test_matrices_are_multiplied_in_a_batch():
    a, b = noise(3, 4, 6), noise(3, 6, 5)
    np.testing.assert_allclose(run(lambda graph, x, y: graph.matrix_product(x, y), a, b), a @ b, atol=1e-5)
