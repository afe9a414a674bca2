"""`gradfec sweep daemons`: its images, its labels, its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradfec_common.errors import GradfecError, UsageError
from gradfec_lab.sweep.daemons import link_images, print_table, read_labels, share, shares, uncut_row


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


def test_the_first_images_by_name_are_taken_and_other_files_are_not(tmp_path: Path) -> None:
    images, folder = tmp_path / "images", tmp_path / "folder"
    images.mkdir()
    folder.mkdir()
    for name in ("c.png", "a.JPG", "b.webp", ".hidden.png", "notes.txt"):
        (images / name).touch()
    assert link_images(images, folder, 2) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["a.JPG", "b.webp"]
    assert (folder / "a.JPG").resolve() == (images / "a.JPG").resolve()


def test_a_folder_without_images_is_a_wrong_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no images"):
        link_images(tmp_path, tmp_path, 9)
    with pytest.raises(UsageError, match="is not a folder"):
        link_images(tmp_path / "missing", tmp_path, 9)


def test_losses_are_written_as_shares_or_as_percentages() -> None:
    assert shares("0,10%, 0.3") == [0.0, 0.1, 0.3]


def test_the_uncut_model_agrees_with_itself_and_is_right_as_often_as_the_labels_say() -> None:
    reference = {"a": 1, "b": 2, "c": 3, "d": 4}
    assert uncut_row(reference, {"a": 1, "b": 9, "c": 3}, 4)["top1"] == 0.5  # d has no label: not right
    assert uncut_row(reference, None, 4)["top1"] is None
    assert share([True, False, False, True]) == 0.5


def test_the_table_sums_what_is_unaccounted_for_without_cancelling(capsys: pytest.CaptureFixture[str]) -> None:
    measured = {"protect": "none", "loss": 0.3, "frames": 4, "top1": 0.5, "agreement": 0.75}
    measured |= {"packets": dict.fromkeys(("sent", "lost", "recovered", "missing"), 1234)}
    measured |= {"unaccounted": {"edge to injector": 3, "injector to cloud": -2}}
    print_table([uncut_row({"a": 1}, None, 1), measured])
    uncut, none = [line for line in capsys.readouterr().out.splitlines() if "uncut" in line or "none" in line]
    assert "100.0%" in uncut
    assert [cell.strip() for cell in none.split("│")[1:-1]] == [
        *("none", "30%", "4", "50.0%", "75.0%", "1,234", "1,234", "1,234", "1,234", "5")
    ]
