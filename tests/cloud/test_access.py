"""The keys that admit edges: those of a directory, the shared key, or everybody's; read again on request."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradfec_cloud.access import by_id, key_source
from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.keys import INSECURE_KEY, Key, new_key
from gradfec_common.session.handshake import HandshakeKey
from gradfec_host.key_files import KEY_FILE_VARIABLE, write_key


def put(path: Path, key: Key | None = None) -> Key:
    """Keep a key in a file; return it."""
    key = key or new_key(os.urandom)
    write_key(path, key, force=True)
    return key


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Key:
    """The key that is found without an option."""
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "shared"))
    return put(tmp_path / "shared")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place for a directory of keys."""
    return tmp_path / "keys"


def labels(read: dict[bytes, HandshakeKey]) -> dict[bytes, str]:
    return {id: key.label for id, key in read.items()}


def test_without_options_the_key_is_the_one_that_keygen_has_put_in_its_place(shared: Key) -> None:
    read = key_source(None, None, insecure=False)()
    assert labels(read) == {shared.id: ""}
    assert not any(key.insecure for key in read.values())


def test_a_key_file_replaces_the_default_key(tmp_path: Path) -> None:
    key = put(tmp_path / "other")
    assert labels(key_source(tmp_path / "other", None, insecure=False)()) == {key.id: ""}


def test_a_directory_names_the_edges_and_the_shared_key_counts_only_where_it_is_named(
    folder: Path, tmp_path: Path, shared: Key
) -> None:
    north, south = put(folder / "north"), put(folder / "south")
    named = {north.id: "north", south.id: "south"}
    assert labels(key_source(None, folder, insecure=False)()) == named
    assert labels(key_source(tmp_path / "shared", folder, insecure=False)()) == named | {shared.id: ""}


def test_an_edge_that_has_the_shared_key_of_its_own_is_known_by_its_name(
    folder: Path, tmp_path: Path, shared: Key
) -> None:
    put(folder / "north", shared)
    assert labels(key_source(tmp_path / "shared", folder, insecure=False)()) == {shared.id: "north"}


def test_each_reading_sees_the_current_files(folder: Path) -> None:
    put(folder / "north")
    read = key_source(None, folder, insecure=False)
    read()
    south = put(folder / "south")
    (folder / "north").unlink()
    assert labels(read()) == {south.id: "south"}
    (folder / "south").chmod(0o640)
    with pytest.raises(GradfecError, match="run `chmod 600 "):
        read()


def test_insecure_admits_everybody_and_reads_no_other_key() -> None:
    read = key_source(None, None, insecure=True)()
    assert labels(read) == {INSECURE_KEY.id: ""}
    assert all(key.insecure for key in read.values())


@pytest.mark.parametrize("options", [(Path("key"), None), (None, Path("keys")), (Path("key"), Path("keys"))])
def test_insecure_excludes_keys_before_any_file_is_read(
    options: tuple[Path | None, Path | None],
) -> None:
    with pytest.raises(UsageError, match="--insecure lets everybody in"):
        key_source(*options, insecure=True)


def test_without_a_key_reading_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "shared").unlink()
    read = key_source(None, None, insecure=False)
    with pytest.raises(UsageError, match=f"no key at {tmp_path / 'shared'}: make one with `gradfec keygen`"):
        read()


def test_keys_are_found_by_their_ids(shared: Key) -> None:
    key = HandshakeKey(shared, "north")
    assert by_id(key) == {shared.id: key}
