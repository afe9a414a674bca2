"""What the sources have warned of."""

from __future__ import annotations

import pytest


@pytest.fixture
def warnings() -> list[str]:
    return []
