"""Our ResNet-50 is Keras's, and its cuts are exactly those at which Keras can cut."""

import keras
import pytest

from gradfec_common.errors import UsageError
from gradfec_common.networks import DEFAULT_CUT, DEFAULT_NETWORK, full_name, named_cut, named_network, parameters
from gradfec_common.networks.resnet50 import RESNET50

# The cuts' numbers on the wire. They are registered: no line of this table may change.
REGISTERED = """
    1 input_layer         2 conv1_pad           3 conv1_conv          4 conv1_bn            5 conv1_relu
    6 pool1_pad           7 pool1_pool         18 conv2_block1_add   19 conv2_block1_out   28 conv2_block2_add
   29 conv2_block2_out   38 conv2_block3_add   39 conv2_block3_out   50 conv3_block1_add   51 conv3_block1_out
   60 conv3_block2_add   61 conv3_block2_out   70 conv3_block3_add   71 conv3_block3_out   80 conv3_block4_add
   81 conv3_block4_out   92 conv4_block1_add   93 conv4_block1_out  102 conv4_block2_add  103 conv4_block2_out
  112 conv4_block3_add  113 conv4_block3_out  122 conv4_block4_add  123 conv4_block4_out  132 conv4_block5_add
  133 conv4_block5_out  142 conv4_block6_add  143 conv4_block6_out  154 conv5_block1_add  155 conv5_block1_out
  164 conv5_block2_add  165 conv5_block2_out  174 conv5_block3_add  175 conv5_block3_out  176 avg_pool
"""


def pair(value):
    return [value, value] if isinstance(value, int) else value


def test_layers_are_those_of_keras_in_name_kind_edges_shape_and_arrays(resnet50):
    for ours, theirs in zip(RESNET50.layers, resnet50.layers, strict=True):
        inbound = (
            [] if ours.kind == "InputLayer" else theirs.input if isinstance(theirs.input, list) else [theirs.input]
        )
        assert ours.name == theirs.name
        assert ours.kind == type(theirs).__name__
        assert list(ours.inbound) == [tensor._keras_history.operation.name for tensor in inbound], ours.name
        shape = theirs.output.shape[1:]
        assert ours.shape == ((1, 1, *shape) if len(shape) == 1 else shape), ours.name
        assert [(f"{ours.name}/{name}", shape) for name, shape in ours.arrays.items()] == [
            (weight.path, weight.shape) for weight in theirs.weights
        ]


def test_layers_have_the_options_of_keras(resnet50):
    for ours, theirs in zip(RESNET50.layers, resnet50.layers, strict=True):
        config = theirs.get_config()
        for option, value in ours.options.items():
            if option == "padding" and isinstance(value, int):
                assert config[option] == ((value, value), (value, value)), ours.name
            elif option in ("kernel_size", "strides", "pool_size"):
                assert list(config[option]) == pair(value), ours.name
            else:
                assert config[option] == value, ours.name


def test_cuts_are_exactly_where_keras_can_cut_into_two_models(resnet50):
    cuttable = set()
    for layer in resnet50.layers[:-1]:
        try:
            keras.Model(layer.output, resnet50.output)
        except ValueError:
            continue
        cuttable.add(layer.name)
    assert {cut.name for cut in RESNET50.cuts} == cuttable


def test_the_cuts_numbers_never_change():
    words = REGISTERED.split()
    registered = [(int(number), name) for number, name in zip(words[::2], words[1::2], strict=True)]
    assert [(cut.id, cut.name) for cut in RESNET50.cuts] == registered


def test_its_digest_changes_only_when_edges_and_clouds_of_other_releases_must_not_meet():
    assert RESNET50.digest.hex() == "2a13713762e6e7a992c754c50b014d40"


def test_cuts_are_found_by_name_and_by_number():
    cut = RESNET50.cut(DEFAULT_CUT)
    assert (cut.shape, cut.elements) == ((56, 56, 256), 802_816)
    assert RESNET50.cut_by_id(cut.id) is cut
    assert RESNET50.cut("avg_pool").shape == (1, 1, 2048)
    assert RESNET50.cut_by_id(0) is None
    assert RESNET50.cut_by_id(65_535) is None


def test_front_and_back_layers_partition_the_network_in_order():
    for cut in RESNET50.cuts:
        assert cut.front_layers + cut.back_layers == RESNET50.layers[1:]
    assert RESNET50.cut("input_layer").front_layers == ()
    assert parameters(RESNET50.cut(DEFAULT_CUT).front_layers) == 86_656
    assert parameters(RESNET50.layers) == 25_636_712


def test_a_cut_is_rectified_where_the_back_end_sees_nothing_below_zero():
    assert {cut.name for cut in RESNET50.cuts if not cut.rectified} == {
        *("input_layer", "conv1_pad", "conv1_conv"),  # padding of the picture, and what a normalisation takes
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("conv2_block1_2_relu", "the branch from pool1_pool to conv2_block1_0_conv goes around it"),
        ("conv3_block2_3_bn", "the branch from conv3_block1_out to conv3_block2_add goes around"),
        ("conv4_block1_0_bn", "the branch from conv3_block4_out to conv4_block1_1_conv goes around"),
        ("conv4_block1_0_bn", "the nearest split points are conv3_block4_out and conv4_block1_add"),
        ("predictions", "nothing is left for the back-end"),
        ("conv2_block1_ad", "did you mean conv2_block1_add"),
        ("fire7/squeeze", "ResNet-50 has no layer 'fire7/squeeze': for example conv2_block2_out"),
    ],
)
def test_other_layers_are_refused_by_name_with_the_reason(name, reason):
    with pytest.raises(UsageError, match=reason) as refusal:
        RESNET50.cut(name)
    assert repr(name) in str(refusal.value)


def test_every_layer_is_a_cut_or_refused_with_a_usage_error():
    for layer in RESNET50.layers:
        if layer.name not in {cut.name for cut in RESNET50.cuts}:
            with pytest.raises(UsageError, match="cannot split"):
                RESNET50.cut(layer.name)


def test_it_is_the_default_network_whose_cuts_need_no_prefix():
    assert named_network(DEFAULT_NETWORK) is RESNET50
    assert named_cut("pool1_pool") is named_cut("resnet50:pool1_pool") is RESNET50.cut("pool1_pool")
    assert full_name(RESNET50.cut("pool1_pool")) == "pool1_pool"
    with pytest.raises(UsageError, match="no network is called 'vgg': use one of resnet50"):
        named_cut("vgg:block1_pool")
