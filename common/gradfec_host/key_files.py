"""Where keys are kept: files that only their owner may read, each with one token and perhaps comments."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from gradfec_common.errors import GradfecError, UsageError
from gradfec_common.keys import INSECURE_KEY, Key, read_token
from gradfec_host.places import settings_folder

KEY_FILE_VARIABLE = "GRADFEC_KEY_FILE"
MAX_FILE_BYTES = 4096
HEADING = "# A gradfec key. Whoever can read it can pose as either side: keep it secret.\n"


def key_path(given: Path | None = None) -> Path:
    """Return where the key is looked for: `given`, else $GRADFEC_KEY_FILE, else `key` among the user's settings."""
    if given is not None:
        return given
    if named := os.environ.get(KEY_FILE_VARIABLE):
        return Path(named).expanduser()
    return settings_folder() / "key"


def find_key(given: Path | None = None) -> Key:
    """Read the key at `key_path(given)`; UsageError that says how to come by one if there is none."""
    path = key_path(given)
    try:
        return read_key(path)
    except FileNotFoundError:
        raise UsageError(
            f"there is no key at {path}: make one with `gradfec keygen`, or bring the one that the other machine has: "
            "`gradfec keygen --show` there, `gradfec keygen --paste` here; or give --insecure on both sides to go "
            "without protection"
        ) from None


def edge_key(given: Path | None, *, insecure: bool) -> Key:
    """Return the key of an edge, as `find_key` finds it, or the one that everybody has; UsageError for both."""
    if insecure and given:
        raise UsageError("--insecure goes without a key: give it without --key-file")
    return INSECURE_KEY if insecure else find_key(given)


class NamedKey(NamedTuple):
    """A key, and what its edge is called in records."""

    label: str
    key: Key


def read_keys(folder: Path) -> dict[bytes, NamedKey]:
    """Read a directory of keys, one file for each edge, named after it; return them by their ids.

    Names that begin with a dot are passed over. GradfecError, naming the file, for a bad one and for a key that two
    files have; also where there are none.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise GradfecError(f"cannot read the directory of keys {folder}: {error.strerror}") from error
    keys: dict[bytes, NamedKey] = {}
    for path in paths:
        if not path.name.isprintable():  # nor can lone surrogates be printed, which stand for what is not UTF-8
            raise GradfecError(f"{folder} has the file {path.name!r}: an edge's name must be printable; rename it")
        try:
            key = read_key(path)
        except FileNotFoundError as error:
            raise GradfecError(f"cannot read the key {path}: {error.strerror}") from error
        if key.id in keys:
            raise GradfecError(
                f"{folder / keys[key.id].label} and {path} hold the same key: each edge needs its own; remove one"
            )
        keys[key.id] = NamedKey(path.name, key)
    if not keys:
        raise GradfecError(f"there are no keys in {folder}: put one file there for each edge, named after the edge")
    return keys


def read_key(path: Path) -> Key:
    """Read a key file; FileNotFoundError where there is none, GradfecError for one that may not be trusted or read."""
    try:
        # What was checked is what is read: the open file, whatever happens to its name. A pipe must not make us wait.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            _check_trust(path, os.fstat(descriptor))
            content = os.read(descriptor, MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise GradfecError(f"cannot read the key {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise GradfecError(f"{path} is no key file: it has more than {MAX_FILE_BYTES} bytes")
    try:
        return parse_key(content)
    except GradfecError as error:
        raise GradfecError(f"{path}: {error}") from None


def parse_key(content: bytes) -> Key:
    """Return the key of a key file's content: one token, blank lines, comments (#); GradfecError if it is not that."""
    lines = [line.strip() for line in content.decode("utf-8-sig", errors="replace").splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise GradfecError("this is empty: there is no key in it")
    if len(tokens) > 1:
        raise GradfecError(f"this has {len(tokens)} lines that are no comments: one key is needed")
    return read_token(tokens[0])


def _check_trust(path: Path, found: os.stat_result) -> None:
    """Refuse what is no file, and what others can read, write or have made, where files have such owners and rights."""
    if not stat.S_ISREG(found.st_mode):
        raise GradfecError(f"{path} is no file that could hold a key")
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid not in {0, os.geteuid()}:
        raise GradfecError(
            f"the key {path} belongs to user {found.st_uid}, neither to you nor to root: run `chown {os.geteuid()} "
            f"{shlex.quote(str(path))}` as root if you trust it"
        )
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise GradfecError(
            f"others than its owner have access to the key {path}: run `chmod 600 {shlex.quote(str(path))}`"
        )


def write_key(path: Path, key: Key, *, force: bool = False) -> None:
    """Write a key file that its owner alone may read, in a directory that is made alike if need be.

    UsageError where something is there already, unless `force` says to replace it; GradfecError if it cannot be done.
    """
    content = f"{HEADING}# Its id: {key.id.hex()}\n{key.token}\n".encode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if force:
            _replace(path, content)
        else:
            _write(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), path, content)
    except FileExistsError:
        if not path.parent.is_dir():
            raise GradfecError(f"cannot write the key {path}: {path.parent} is no directory") from None
        raise already_there(path) from None
    except OSError as error:
        raise GradfecError(f"cannot write the key {path}: {error.strerror}") from error


def already_there(path: Path) -> UsageError:
    """Say why a key is not written where something is already."""
    return UsageError(
        f"there is a key at {path} already, and machines that share it would be locked out: `gradfec keygen --show` "
        "shows it, --force replaces it"
    )


def _replace(path: Path, content: bytes) -> None:
    """Put a new file in the place of an old one, all at once."""
    descriptor, name = tempfile.mkstemp(prefix=".key-", dir=path.parent)  # O_EXCL, 0600
    _write(descriptor, Path(name), content)
    try:
        Path(name).replace(path)
    except OSError:
        Path(name).unlink()
        raise


def _write(descriptor: int, path: Path, content: bytes) -> None:
    """Write a file that has just been made; leave none where that fails."""
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
