"""Fixtures for tests of several packages: small photographs, and the parts of the real network, each built once.

Tests must not change these models. TensorFlow is imported only when a test asks for one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from hypothesis import settings

from gradfec_cli import daemons
from gradfec_common import entropy
from gradfec_common.codes import CODES, LEOPARD
from gradfec_common.networks import DEFAULT_CUT, named_cut
from gradfec_common.networks.resnet50 import RESNET50
from gradfec_host.config import CONFIG_VARIABLE
from gradfec_host.weights import WeightStore, ensure_weights

if TYPE_CHECKING:
    from gradfec_cli.gradcam import GradCam
    from gradfec_cloud.backend import BackEnd
    from gradfec_cloud.backend.keras_runtime import KerasBackEnd
    from gradfec_edge.frontend.keras_runtime import KerasFrontEnd


os.environ[CONFIG_VARIABLE] = os.devnull  # commands read no settings of this machine

# Each worker of pytest-xdist has ports of its own, above 10,080, which browsers refuse.
FIRST_PORT = 11_000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
daemons.PORTS = cycle(range(FIRST_PORT, FIRST_PORT + 1000))

settings.register_profile("any speed", deadline=None)  # a slow machine is no failure
settings.load_profile("any speed")

# Files about what the extra `lab` brings, TensorFlow above all. In others, single tests are skipped without it.
OF_THE_LAB = [
    "cli/test_gradcam.py", "cli/test_show.py", "cloud/test_backend.py", "common/networks/test_resnet50.py",
    "common/test_preprocess.py", "edge/test_frontend.py", "edge/test_proxy.py", "host/test_weight_formats.py",
]  # fmt: skip
collect_ignore = [] if find_spec("tensorflow") else OF_THE_LAB


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of what is not installed: those with leopard's mark, and cases with a package's name."""
    installed = {"leopard": LEOPARD.id in CODES, "tensorflow": find_spec("tensorflow") is not None}
    for item in items:
        case = item.callspec.id if hasattr(item, "callspec") else ""
        for name, is_there in installed.items():
            if not is_there and (item.get_closest_marker(name) or name in case):
                item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))


@pytest.fixture(scope="module", params=["constriction", "numpy"])
def range_coder(request: pytest.FixtureRequest) -> Iterator[None]:
    """Either way to code levels: with the library, if it is installed, and without."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(entropy, "constriction", None)
        elif entropy.constriction is None:
            pytest.skip("constriction is not installed")
        yield


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six photographs from scikit-image, 224 x 224."""
    import skimage

    folder = tmp_path_factory.mktemp("photographs")
    for name in ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "rocket.jpg"):
        image = cv2.imread(str(Path(skimage.__file__).parent / "data" / name), cv2.IMREAD_COLOR)
        assert isinstance(image, np.ndarray)
        cv2.imwrite(str(folder / f"{Path(name).stem}.png"), cv2.resize(image, (224, 224)))
    return folder


@pytest.fixture(scope="session")
def weights() -> WeightStore:
    """The real weights."""
    return ensure_weights(RESNET50)


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras, if it is installed."""
    return pytest.importorskip("keras")


@pytest.fixture(scope="session")
def resnet50(keras: Any, weights: WeightStore) -> Any:
    """Keras's own model, its layers named as if it were the first, with the real weights."""
    keras.backend.clear_session()  # so that the input layer is not numbered
    model = keras.applications.ResNet50(weights=None)
    for layer, theirs in zip(RESNET50.layers, model.layers, strict=True):
        theirs.set_weights(weights.arrays(layer.name))
    return model


@pytest.fixture(scope="session")
def front_end(keras: Any, weights: WeightStore) -> KerasFrontEnd:
    """The front-end of the default split, warmed up."""
    from gradfec_edge.frontend.keras_runtime import KerasFrontEnd

    model = KerasFrontEnd(named_cut(DEFAULT_CUT), weights)
    model.warm_up()
    return model


@pytest.fixture(scope="session")
def back_end(keras: Any, weights: WeightStore) -> KerasBackEnd:
    """The back-end of the default split for up to five tensors, warmed up."""
    from gradfec_cloud.backend.keras_runtime import KerasBackEnd

    model = KerasBackEnd(named_cut(DEFAULT_CUT), weights, max_batch=5)
    model.warm_up()
    return model


@pytest.fixture(scope="session")
def uncut(weights: WeightStore) -> BackEnd:
    """The network from its normalised input on."""
    from gradfec_cli.uncut import uncut_model

    return uncut_model(weights)


@pytest.fixture(scope="session")
def oracle(keras: Any, weights: WeightStore) -> GradCam:
    """Grad-CAM at the default split."""
    from gradfec_cli.gradcam import GradCam

    return GradCam(named_cut(DEFAULT_CUT), weights)
