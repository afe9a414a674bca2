"""Key files, which only their owner may read: each has one token, and possibly comments."""

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
HEADING = "# A gradfec key. Anybody who can read it can pose as either side: keep it secret.\n"


def key_path(given: Path | None = None) -> Path:
    """Return the path of the key: `given`, or $GRADFEC_KEY_FILE, or `key` in the settings folder."""
    if given is not None:
        return given
    if named := os.environ.get(KEY_FILE_VARIABLE):
        return Path(named).expanduser()
    return settings_folder() / "key"


def find_key(given: Path | None = None) -> Key:
    """Read the key at `key_path(given)`; if there is none, UsageError, which says how to get one."""
    path = key_path(given)
    try:
        return read_key(path)
    except FileNotFoundError:
        raise UsageError(
            f"there is no key at {path}: make one with `gradfec keygen`, or copy the other machine's: `gradfec keygen "
            "--show` there, `gradfec keygen --paste` here; to run without a key, give --insecure on both sides"
        ) from None


def edge_key(given: Path | None, *, insecure: bool) -> Key:
    """Return an edge's key, as `find_key` finds it, or the public one; UsageError if both are asked for."""
    if insecure and given:
        raise UsageError("--insecure runs without a key: do not combine it with --key-file")
    return INSECURE_KEY if insecure else find_key(given)


class NamedKey(NamedTuple):
    """A key, and its edge's name in records."""

    label: str
    key: Key


def read_keys(folder: Path) -> dict[bytes, NamedKey]:
    """Read a directory of keys, one file for each edge, named after it; return the keys by their ids.

    Names that start with a dot are skipped. GradfecError, which names the file, for a bad file and for a key that two
    files hold; also if there are no keys.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise GradfecError(f"cannot read the directory of keys {folder}: {error.strerror}") from error
    keys: dict[bytes, NamedKey] = {}
    for path in paths:
        if not path.name.isprintable():  # nor are lone surrogates, which stand for bytes that are not UTF-8
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
    """Read a key file; FileNotFoundError if there is none, GradfecError if it cannot be trusted or read."""
    content = _read_private(path, "key")
    try:
        return parse_key(content)
    except GradfecError as error:
        raise GradfecError(f"{path}: {error}") from None


def read_secret(path: Path, what: str) -> str:
    """Read a file with one line, `what` it is, which only its owner may read; GradfecError for any other file."""
    try:
        content = _read_private(path, what)
    except FileNotFoundError as error:
        raise GradfecError(f"cannot read the {what} {path}: {error.strerror}") from None
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise GradfecError(f"{path} is not a {what} file: it is not UTF-8") from None
    if len(lines) != 1 or not lines[0].strip():
        raise GradfecError(f"{path} should hold one line, the {what}, and has {len(lines)}")
    return lines[0].strip()


def _read_private(path: Path, what: str) -> bytes:
    """Return a short file that others cannot read; FileNotFoundError if there is none, GradfecError for any other."""
    try:
        # Check and read the same open file, whatever happens to its name. O_NONBLOCK: never wait for a pipe.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            _check_trust(path, os.fstat(descriptor), what)
            content = os.read(descriptor, MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise GradfecError(f"cannot read the {what} {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise GradfecError(f"{path} is not a {what} file: it has more than {MAX_FILE_BYTES} bytes")
    return content


def parse_key(content: bytes) -> Key:
    """Return the key in a key file's content: one token, blank lines, comments (#); GradfecError for anything else."""
    lines = [line.strip() for line in content.decode("utf-8-sig", errors="replace").splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise GradfecError("this is empty: there is no key in it")
    if len(tokens) > 1:
        raise GradfecError(f"this has {len(tokens)} lines that are not comments: it should hold one key")
    return read_token(tokens[0])


def _check_trust(path: Path, found: os.stat_result, what: str) -> None:
    """Refuse anything but a file, and a file that others own or can access, on systems with owners and permissions."""
    if not stat.S_ISREG(found.st_mode):
        raise GradfecError(f"{path} is not a regular file, so it cannot hold a {what}")
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid not in {0, os.geteuid()}:
        raise GradfecError(
            f"the {what} {path} belongs to user {found.st_uid}, neither to you nor to root: if you trust it, run "
            f"`chown {os.geteuid()} {shlex.quote(str(path))}` as root"
        )
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise GradfecError(
            f"users other than its owner have access to the {what} {path}: run `chmod 600 {shlex.quote(str(path))}`"
        )


def write_key(path: Path, key: Key, *, force: bool = False) -> None:
    """Write a key file that only its owner may read, and make its directory the same way if it does not exist.

    UsageError if there is a file already and `force` is not set; GradfecError if the file cannot be written.
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
            raise GradfecError(f"cannot write the key {path}: {path.parent} is not a directory") from None
        raise already_there(path) from None
    except OSError as error:
        raise GradfecError(f"cannot write the key {path}: {error.strerror}") from error


def already_there(path: Path) -> UsageError:
    """Return the error for a key file that exists already."""
    return UsageError(
        f"there is a key at {path} already, and replacing it locks out the machines that share it: `gradfec keygen "
        "--show` shows it, --force replaces it"
    )


def _replace(path: Path, content: bytes) -> None:
    """Replace the file atomically."""
    descriptor, name = tempfile.mkstemp(prefix=".key-", dir=path.parent)  # O_EXCL, 0600
    _write(descriptor, Path(name), content)
    try:
        Path(name).replace(path)
    except OSError:
        Path(name).unlink()
        raise


def _write(descriptor: int, path: Path, content: bytes) -> None:
    """Write a newly created file; remove it if that fails."""
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
