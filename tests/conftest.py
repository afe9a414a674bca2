"""What tests of several packages share: the real weights, and small photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

from gradfec_common.codes import CODES, LEOPARD

settings.register_profile("any speed", deadline=None)  # how long an example takes is up to the machine
settings.load_profile("any speed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs leopard where that is not installed: what is marked so, and cases of that name."""
    if LEOPARD.id in CODES:
        return
    for item in items:
        case = item.callspec.id if hasattr(item, "callspec") else ""
        if item.get_closest_marker("leopard") or "leopard" in case:
            item.add_marker(pytest.mark.skip(reason="reed-solomon-leopard is not installed"))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six photographs from scikit-image, 224 x 224."""
    skimage = pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "rocket.jpg"):
        image = cv2.imread(str(Path(skimage.__file__).parent / "data" / name), cv2.IMREAD_COLOR)
        assert isinstance(image, np.ndarray)
        cv2.imwrite(str(folder / f"{Path(name).stem}.png"), cv2.resize(image, (224, 224)))
    return folder
