"""Errors that a user sees. Each message says what is wrong, with the value, and what to do."""

from __future__ import annotations


class GradfecError(Exception):
    """Something outside the program is wrong: a file, a port, a peer, a disk. Exit code 1."""

    exit_code = 1


class UsageError(GradfecError):
    """An option or argument is wrong. Exit code 2, like click's own usage errors."""

    exit_code = 2
