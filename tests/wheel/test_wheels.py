"""The dependencies of both ends: on each Python and processor, from wheels, but for one that pip compiles."""

import pytest
from tests.wheel.wheels import COMPILED, PROCESSORS, PYTHONS, resolve


@pytest.mark.wheel
@pytest.mark.slow
@pytest.mark.parametrize("extra", ["edge", "cloud"])
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_both_ends_can_be_installed_on_each_python_and_processor(processor: str, python: str, extra: str) -> None:
    versions = resolve(extra, python, processor, "--no-binary", COMPILED)
    assert {"ai-edge-litert", "cryptography", "opencv-python-headless", COMPILED} <= versions.keys()
    assert ("constriction" in versions) == (processor == "amd64")
    assert ("reed-solomon-leopard" in versions) == (python in {"3.10", "3.11", "3.12"})
