"""The two halves are the whole: front-end and back-end against the uncut network, on real photographs.

GRADFEC_IMAGES=FOLDER takes the first 50 images of a folder of yours in place of scikit-image's:
`GRADFEC_IMAGES=photos make test ARGS="-s tests/integration/test_split.py"`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gradfec_cloud.backend import BackEnd
from gradfec_common.network import DEFAULT_SPLIT, split_point
from gradfec_common.quantise import dequantise, quantise
from gradfec_common.weights import ensure_weights
from gradfec_edge.camera import open_source
from gradfec_edge.frontend import FrontEnd
from gradfec_edge.preprocess import normalise, to_input
from gradfec_lab.uncut import uncut_model

IMAGES = 50


def test_front_end_and_back_end_answer_as_the_uncut_network(photographs: Path) -> None:
    source = open_source(os.environ.get("GRADFEC_IMAGES") or str(photographs))
    weights = ensure_weights(None, None)
    cut = split_point(DEFAULT_SPLIT)
    front, back, whole = FrontEnd(cut, weights), BackEnd(cut, weights), uncut_model(weights)
    differences, quantised_differs, count = [], 0, 0
    while count < IMAGES and (frame := source.next_frame(1.0)) is not None:
        count += 1
        image = to_input(frame.image)
        chi = front(image).chi
        uncut = whole(normalise(image)[np.newaxis])[0]
        split = back(chi[np.newaxis])[0]
        assert split.argmax() == uncut.argmax(), frame.source
        differences.append(float(np.abs(split - uncut).max()))
        levels = quantise(chi)
        quantised_differs += int(back(dequantise(*levels)[np.newaxis])[0].argmax() != uncut.argmax())
    print(f"\n{count} images: largest difference of a probability {max(differences):.1e}; same top-1 on all;")
    print(f"with chi quantised to 8 bits, another top-1 on {quantised_differs}")
    assert max(differences) == pytest.approx(0, abs=1e-4)
