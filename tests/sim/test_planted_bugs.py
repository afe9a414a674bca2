"""A simulation that does not catch bugs which are put in on purpose would not catch others either."""

import pytest

from .planted import PLANTED
from .run import tell

MANY = 20  # seeds: what takes more is left to `make test-slow`
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if bug.within > MANY else []) for name, bug in PLANTED.items()]


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_bug_is_caught(name):
    bug = PLANTED[name]
    with bug.plant():
        assert any(tell(seed).failure for seed in range(bug.within)), f"{bug.what}: not caught"
