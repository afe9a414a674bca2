"""ResNet-50 as Keras builds it, as data: its layers in Keras's order.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1; layer names and constants are
those of `keras.applications.ResNet50`. A test compares the two layer by layer.
"""

from __future__ import annotations

from gradfec_common.heads.classify import Classify
from gradfec_common.networks.network import Layer, Network, Preprocess

STAGES = ((2, 3, 64), (3, 4, 128), (4, 6, 256), (5, 3, 512))  # (stage, blocks, filters of the 3x3 convolution)
EXPANSION = 4  # a block's last 1x1 convolution has this many times the filters of its 3x3
BN_EPSILON = 1.001e-5
CLASSES = 1000

# As `keras.applications.resnet50.preprocess_input` does it ("caffe"): ImageNet's means of blue, green and red.
PREPROCESS = Preprocess(224, 224, order="bgr", means=(103.939, 116.779, 123.68))


def _convolution(name: str, source: Layer, filters: int, size: int, strides: int = 1, padding: str = "valid") -> Layer:
    height, width, channels = source.shape
    if padding == "valid":
        height, width = height - size + 1, width - size + 1
    shape = (-(-height // strides), -(-width // strides), filters)
    options = {"filters": filters, "kernel_size": size, "strides": strides, "padding": padding}
    arrays = {"kernel": (size, size, channels, filters), "bias": (filters,)}
    return Layer(name, "Conv2D", (source.name,), shape, options, arrays)


def _normalisation(name: str, source: Layer) -> Layer:
    channels = source.shape[2:]
    arrays = {"gamma": channels, "beta": channels, "moving_mean": channels, "moving_variance": channels}
    return Layer(name, "BatchNormalization", (source.name,), source.shape, {"epsilon": BN_EPSILON}, arrays)


def _relu(name: str, source: Layer) -> Layer:
    return Layer(name, "Activation", (source.name,), source.shape, {"activation": "relu"})


def _padding(name: str, source: Layer, border: int) -> Layer:
    height, width, channels = source.shape
    shape = (height + 2 * border, width + 2 * border, channels)
    return Layer(name, "ZeroPadding2D", (source.name,), shape, {"padding": border})


def _block(name: str, source: Layer, filters: int, strides: int, projected: bool) -> list[Layer]:
    """Build one bottleneck block in Keras's layer order; `projected` puts a convolution on its shortcut."""
    conv1 = _convolution(f"{name}_1_conv", source, filters, 1, strides)
    bn1 = _normalisation(f"{name}_1_bn", conv1)
    relu1 = _relu(f"{name}_1_relu", bn1)
    conv2 = _convolution(f"{name}_2_conv", relu1, filters, 3, padding="same")
    bn2 = _normalisation(f"{name}_2_bn", conv2)
    relu2 = _relu(f"{name}_2_relu", bn2)
    conv3 = _convolution(f"{name}_3_conv", relu2, EXPANSION * filters, 1)
    bn3 = _normalisation(f"{name}_3_bn", conv3)
    layers = [conv1, bn1, relu1, conv2, bn2, relu2]
    shortcut = source
    if projected:
        conv0 = _convolution(f"{name}_0_conv", source, EXPANSION * filters, 1, strides)
        shortcut = _normalisation(f"{name}_0_bn", conv0)
        layers += [conv0, conv3, shortcut, bn3]
    else:
        layers += [conv3, bn3]
    add = Layer(f"{name}_add", "Add", (shortcut.name, bn3.name), bn3.shape)
    return [*layers, add, _relu(f"{name}_out", add)]


def _layers() -> tuple[Layer, ...]:
    layers = [Layer("input_layer", "InputLayer", (), (224, 224, 3))]
    layers.append(_padding("conv1_pad", layers[-1], 3))
    layers.append(_convolution("conv1_conv", layers[-1], 64, 7, strides=2))
    layers.append(_normalisation("conv1_bn", layers[-1]))
    layers.append(_relu("conv1_relu", layers[-1]))
    layers.append(_padding("pool1_pad", layers[-1], 1))
    layers.append(Layer("pool1_pool", "MaxPooling2D", ("pool1_pad",), (56, 56, 64), {"pool_size": 3, "strides": 2}))
    for stage, blocks, filters in STAGES:
        for n in range(1, blocks + 1):
            strides = 2 if n == 1 and stage > 2 else 1  # stage 2 follows the pooling, which has halved already
            layers += _block(f"conv{stage}_block{n}", layers[-1], filters, strides, projected=n == 1)
    channels = layers[-1].shape[2]
    layers.append(Layer("avg_pool", "GlobalAveragePooling2D", (layers[-1].name,), (1, 1, channels)))
    dense = {"units": CLASSES, "activation": "softmax"}
    arrays = {"kernel": (channels, CLASSES), "bias": (CLASSES,)}
    layers.append(Layer("predictions", "Dense", ("avg_pool",), (1, 1, CLASSES), dense, arrays))
    return tuple(layers)


RESNET50 = Network("resnet50", "ResNet-50", _layers(), PREPROCESS, Classify(CLASSES), labels="imagenet")
