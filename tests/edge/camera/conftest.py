"""The warnings of sources."""

from __future__ import annotations

import pytest


@pytest.fixture
def warnings() -> list[str]:
    return []
