"""The keys that admit edges: those of a directory, the shared key, or, with --insecure, the public one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gradfec_common.errors import UsageError
from gradfec_common.keys import INSECURE_KEY, Key
from gradfec_common.session.greeter import Keys
from gradfec_common.session.handshake import HandshakeKey
from gradfec_host.key_files import find_key, read_keys


def key_source(key_file: Path | None, folder: Path | None, *, insecure: bool) -> Callable[[], Keys]:
    """Return a function that reads the keys, at the start and on SIGHUP; UsageError for conflicting options.

    With a `folder`, the shared key is valid only if `key_file` names it.
    """
    if insecure and (key_file or folder):
        raise UsageError("--insecure lets everybody in: give it without --key-file and --keys")

    def read() -> Keys:
        if insecure:
            return by_id(HandshakeKey(INSECURE_KEY))
        of_edges = read_keys(folder) if folder else {}
        shared: list[Key] = [find_key(key_file)] if key_file or not folder else []
        named = [HandshakeKey(key, label) for label, key in of_edges.values()]
        return by_id(*map(HandshakeKey, shared), *named)

    return read


def by_id(*keys: HandshakeKey) -> Keys:
    """Return keys by their ids."""
    return {key.id: key for key in keys}
