"""Class labels ship with the package, in the order of the network's outputs."""

import dataclasses

from gradfec_cloud.labels import labels_of
from gradfec_common.networks.resnet50 import RESNET50


def test_there_is_a_label_for_each_of_the_thousand_classes_in_imagenet_order():
    labels = labels_of(RESNET50)
    assert len(labels) == 1000
    assert [labels[n] for n in (0, 1, 281, 388, 999)] == ["tench", "goldfish", "tabby", "giant_panda", "toilet_tissue"]


def test_a_network_without_a_list_of_labels_has_none():
    assert labels_of(dataclasses.replace(RESNET50, labels="")) == ()
