"""Front-end and back-end together answer as the uncut network does, on real photographs.

GRADFEC_IMAGES=FOLDER takes the first 50 images of a folder of yours in place of scikit-image's:
`GRADFEC_IMAGES=photos make test ARGS="-s tests/integration/test_split.py"`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gradfec_cli.uncut import uncut_model
from gradfec_cloud.backend import load_back_end
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.pixels import normalise
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_common.packets import PacketGrid
from gradfec_common.preprocess import to_input
from gradfec_common.quantisers import QUANTISERS
from gradfec_edge.camera import open_source
from gradfec_edge.frontend import load_front_end
from gradfec_host.runtimes import LITERT, TENSORFLOW
from gradfec_host.weights import WeightStore

IMAGES = 50


@pytest.mark.parametrize("runtime", [LITERT, pytest.param(TENSORFLOW, marks=pytest.mark.slow)])
def test_front_end_and_back_end_answer_as_the_uncut_network(
    photographs: Path, weights: WeightStore, runtime: str
) -> None:
    split = named_cut(DEFAULT_CUT)
    front_end, back_end = load_front_end(runtime, split, weights), load_back_end(runtime, split, weights)
    uncut, grid, uniform8 = uncut_model(weights, runtime), PacketGrid(split.shape), QUANTISERS["uniform8"]
    source = open_source(os.environ.get("GRADFEC_IMAGES") or str(photographs))
    differences, quantised_differs, count = [], 0, 0
    while count < IMAGES and (frame := source.next_frame(1.0)) is not None:
        count += 1
        image = to_input(frame.image, RESNET50.preprocess)
        chi = front_end(image).chi
        whole = uncut(normalise(image, RESNET50.preprocess)[np.newaxis])[0]
        answer = back_end(chi[np.newaxis])[0]
        assert answer.argmax() == whole.argmax(), frame.source
        differences.append(float(np.abs(answer - whole).max()))
        coded = uniform8.encode(chi, grid)
        quantised = uniform8.decode(coded.packets, coded.parameters, grid).tensor
        quantised_differs += int(back_end(quantised[np.newaxis])[0].argmax() != whole.argmax())
    print(f"\n{runtime}, {count} images: largest difference in probability {max(differences):.1e}; same top-1 on all;")
    print(f"with chi quantised to 8 bits, another top-1 on {quantised_differs}")
    assert max(differences) == pytest.approx(0, abs=1e-4)
