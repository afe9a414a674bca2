"""How long to wait before trying again."""

from __future__ import annotations

FIRST_S = 0.5
LONGEST_S = 10.0


def backoff_s(failures: int, chance: float) -> float:
    """Return the pause after that many failures in a row, at least one: it doubles, up to LONGEST_S.

    `chance`, from 0 to 1, takes away up to half of it, so that many senders do not come back at the same moment.
    """
    return min(FIRST_S * 2.0 ** min(failures - 1, 16), LONGEST_S) * (1 - chance / 2)
