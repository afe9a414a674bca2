"""The exceptions that a user may cause; each message says what was wrong, with the value, and what to do."""

from __future__ import annotations


class GradfecError(Exception):
    """Something outside the program is not as it must be: a file, a port, a peer, a disk. Exit code 1."""

    exit_code = 1


class UsageError(GradfecError):
    """An option or argument is wrong. Exit code 2, as click's own usage errors."""

    exit_code = 2
