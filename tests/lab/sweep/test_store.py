"""What a sweep has found out survives interruptions, and is never mixed with another sweep's."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from gradfec_common.errors import GradfecError, UsageError
from gradfec_lab.sweep.store import ANSWERS, SETTINGS, Record, Store, write_file

OURS = {"sweep": "importance", "limit": 3, "seed": 1}


def test_a_later_run_finds_what_a_former_one_found_out(tmp_path: Path) -> None:
    with Store(tmp_path / "new" / "folder", OURS) as store:
        store.add("a.png", Record({"p": [7], "q": [8, 9]}, {"spearman/x": 0.5}))
        store.add("b.png", Record(skipped="it is broken"))
    with Store(tmp_path / "new" / "folder", OURS) as again:
        assert again.knows("a.png", {"p": 1, "q": 2}, ["spearman/x"])
        assert not again.knows("a.png", {"q": 3})
        assert not again.knows("a.png", {"p": 1}, ["spearman/y"])
        assert again.knows("b.png", {"p": 1})
        assert not again.knows("c.png", {})
        assert again.skipped(["a.png", "b.png", "c.png"]) == {"b.png": "it is broken"}
        np.testing.assert_array_equal(again.answers(["a.png"], ["q"], 2), [[[8, 9]]])


def test_a_later_line_adds_points_and_replaces_what_it_repeats(tmp_path: Path) -> None:
    with Store(tmp_path, OURS) as store:
        store.add("a.png", Record({"p": [7], "q": [1]}))
        store.add("a.png", Record({"p": [7, 8], "r": [2]}))
    with Store(tmp_path, OURS) as again:
        assert again.records["a.png"].answers == {"p": [7, 8], "q": [1], "r": [2]}


def test_a_line_that_was_cut_off_counts_as_not_written(tmp_path: Path) -> None:
    with Store(tmp_path, OURS) as store:
        store.add("a.png", Record({"p": [7]}))
        store.add("b.png", Record({"p": [8]}))
    path = tmp_path / ANSWERS
    path.write_bytes(path.read_bytes()[:-5])
    with Store(tmp_path, OURS) as again:
        assert [*again.records] == ["a.png"]
        again.add("b.png", Record({"p": [8]}))
    with Store(tmp_path, OURS) as third:
        assert [*third.records] == ["a.png", "b.png"]


@pytest.mark.parametrize(("name", "value"), [("limit", 4), ("seed", 2), ("sweep", "protection"), ("rows", 7)])
def test_a_run_with_other_settings_is_refused_by_the_settings_name_and_both_values(
    name: str, value: object, tmp_path: Path
) -> None:
    with Store(tmp_path, OURS):
        pass
    said = f"holds a sweep with {name} = {OURS.get(name)!r}, not {value!r}: give another --out, or the same settings"
    with pytest.raises(UsageError, match=said):
        Store(tmp_path, {**OURS, name: value})


def test_an_estimator_that_has_changed_is_refused_by_name_and_a_new_one_is_welcome(tmp_path: Path) -> None:
    with Store(tmp_path, OURS) as store:
        store.vouch({"proxy": "abc"})
    with Store(tmp_path, OURS) as again:
        again.vouch({"proxy": "abc", "static": "def"})
        with pytest.raises(UsageError, match="answers for static with the fingerprint def, and now static has 123"):
            again.vouch({"static": "123"})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"fingerprints": 3}'])
def test_a_folder_of_something_else_is_left_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(UsageError, match="is not the settings of a sweep: give another --out"):
        Store(tmp_path, OURS)
    assert (tmp_path / SETTINGS).read_text() == text


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GradfecError, match=r"cannot write .*file/out: Not a directory; give another --out"):
        Store(tmp_path / "file" / "out", OURS)


def test_a_full_disk_is_one_plain_line_and_leaves_no_half_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(GradfecError, match=r"figure\.png: No space left on device; free space, and run it again"):
        write_file(tmp_path / "figure.png", b"x")
    assert [*tmp_path.iterdir()] == []
