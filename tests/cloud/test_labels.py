"""Class labels ship with the package, in the order of the network's outputs."""

import numpy as np

from gradfec_cloud.labels import labels, top5


def test_there_is_a_label_for_each_of_the_thousand_classes_in_imagenet_order():
    assert len(labels()) == 1000
    assert [labels()[n] for n in (0, 1, 281, 388, 999)] == [
        "tench",
        "goldfish",
        "tabby",
        "giant_panda",
        "toilet_tissue",
    ]


def test_top5_names_the_likeliest_classes_best_first_as_plain_python():
    probabilities = np.zeros(1000, np.float32)
    probabilities[[388, 0, 999, 7, 281]] = 0.5, 0.25, 0.125, 0.0625, 0.03125
    best = top5(probabilities)
    assert best[:2] == [(388, "giant_panda", 0.5), (0, "tench", 0.25)]
    assert [index for index, _, _ in best] == [388, 0, 999, 7, 281]
    assert all(type(index) is int and type(score) is float for index, _, score in best)


def test_top5_breaks_ties_by_the_lower_class():
    assert [index for index, _, _ in top5(np.full(1000, 0.001, np.float32))] == [0, 1, 2, 3, 4]
