"""The docs of the live page agree with it."""

import re
from pathlib import Path

from gradfec_web.history import BUCKET_S, KEPT_S, RECENT_S
from gradfec_web.words import FATES

TEXT = (Path(__file__).parents[2] / "docs/how-to/live-page.md").read_text()


def test_the_fates_are_those_of_the_page():
    table = TEXT.partition("| fate | |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| ([\w ]+) \| (.*) \|$", table, re.MULTILINE) == list(FATES.values())


def test_the_times_are_those_of_the_code():
    assert (KEPT_S, BUCKET_S, RECENT_S) == (300, 2, 10)
    assert "the last five minutes, a point for every two seconds" in TEXT
    assert "stays for five minutes" in TEXT
    assert "means of the last ten seconds" in TEXT
