"""Records as the page's process reads them."""

import dataclasses
import io

import pytest
from tests.web.world import Camera, status

from gradfec_web import server
from gradfec_web.view import dump

FRAME, PICTURE = Camera("kitchen", 1).frame(1.0)
RECORDS = [status("cloud", 1.0, [Camera("kitchen", 1).edge(1.0)]), FRAME, PICTURE]


def read(*lines):
    return list(server.read_records(io.BytesIO(b"".join(lines))))


def test_records_are_read_as_they_were_told():
    as_lists = dataclasses.replace(FRAME, answer=[list(line) for line in FRAME.answer])
    assert read(*map(dump, RECORDS))[:2] == [RECORDS[0], as_lists]


@pytest.mark.parametrize(
    "bad", [b"", b"nonsense", b"[]", b"1", b"{}", b'{"kind":"x"}', b'{"kind":"status"}', b"\xff\xfe", b"null"]
)
def test_a_line_that_is_no_record_is_passed_over(bad):
    assert len(read(dump(FRAME), bad + b"\n", dump(FRAME))) == 2


def test_a_line_that_was_cut_off_is_passed_over():
    assert len(read(dump(FRAME), dump(FRAME)[:-9])) == 1


@pytest.mark.parametrize(
    ("name", "shown"), [("caf\udce9.jpg", "caf?.jpg"), ("\N{CAT}.jpg", "\N{CAT}.jpg"), ("\\ud800.jpg", "\\ud800.jpg")]
)
def test_a_file_name_that_is_no_text_can_be_sent_to_a_browser(name, shown):
    (record,) = read(dump(dataclasses.replace(FRAME, source=name)))
    assert record.source == shown
    record.source.encode()
