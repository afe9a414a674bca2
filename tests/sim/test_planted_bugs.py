"""A simulation that does not catch bugs which are put in on purpose would not catch others either."""

import pytest

from .planted import PLANTED
from .run import tell


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_caught(name):
    bug = PLANTED[name]
    with bug.plant():
        assert any(tell(seed).failure for seed in range(bug.within)), f"{bug.what}: not caught"
