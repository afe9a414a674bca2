"""What became of each packet of a tensor, for people to look at."""

from __future__ import annotations

import enum


class Cell(enum.IntEnum):
    """What became of one packet of a tensor."""

    SENT = 0  # bare, and it arrived
    PROTECTED = 1  # with parity, and it arrived
    RECOVERED = 2  # lost, and given back by parity
    LOST = 3  # lost, bare: filled
    UNRECOVERED = 4  # lost, though with parity: filled
    DROPPED = 5  # by the plan, never sent: filled
    ABSENT = 6  # not there, and nobody here knows why: dropped or lost; filled
