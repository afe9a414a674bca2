"""The page on security agrees with the code: its numbers are the code's, and the tests that it names exist."""

import re
from dataclasses import asdict
from pathlib import Path

from gradfec_common.session.events import CloudLimits

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/explanation/security.md").read_text()


def test_the_limits_are_those_of_the_code():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", TEXT, re.MULTILINE))
    limits = asdict(CloudLimits())
    assert rows
    assert {name: float(value) for name, value in rows.items()} == {name: float(limits[name]) for name in rows}
    told = {*rows, "reorder_s", "answer_repeat_s", "answer_repeat_max_s"}  # these are in protocol.md, section 7.3
    assert told == {*limits}


def test_every_promise_names_tests_that_exist():
    promises = re.findall(r"^\| \d+ \| .* \| (.*) \|$", TEXT, re.MULTILINE)
    assert len(promises) == 12
    for held_by in promises:
        named = re.findall(r"`(tests/[\w/.]+)`", held_by)
        assert named or "make " in held_by
        for path in named:
            assert (ROOT / path).exists(), path
