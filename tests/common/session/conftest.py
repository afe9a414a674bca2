"""The two cores, each under a clock that the test moves."""

import pytest

from .clouds import Cloud
from .edges import Edge


@pytest.fixture
def cloud():
    return Cloud()


@pytest.fixture
def edge():
    return Edge()
