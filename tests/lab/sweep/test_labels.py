"""Labels are read from a CSV, and what is wrong with it is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradfec_common.errors import GradfecError, UsageError
from gradfec_lab.sweep.labels import read_labels


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    ["a.png,3\nb.png,7\n", "file,class\na.png,3\nb.png,7\n", "a.png,3\n\n\nb.png, 7", '"a.png",3\r\nb.png,7\r\n'],
)
def test_labels_are_read_with_or_without_a_header(text: str, tmp_path: Path) -> None:
    assert read_labels(write(tmp_path / "labels.csv", text)) == {"a.png": 3, "b.png": 7}


@pytest.mark.parametrize("text", ["a.png,3\nb.png,cat\n", "file\na.png\n", "a.png,3\nb.png\n"])
def test_what_is_no_list_of_labels_is_a_wrong_option(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a list of labels"):
        read_labels(write(tmp_path / "labels.csv", text))


def test_a_picture_is_no_list_of_labels_either(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\x89PNG\r\n\xff\xfe\x00")
    with pytest.raises(UsageError, match="it is not text"):
        read_labels(path)


def test_labels_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(GradfecError, match=r"cannot read labels from .*none\.csv: No such file"):
        read_labels(tmp_path / "none.csv")
