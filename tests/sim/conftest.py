"""Eyes in the cores, for every simulation that a test tells by hand."""

import pytest

from .ledger import watched


@pytest.fixture(autouse=True)
def _watched():
    with watched():
        yield
