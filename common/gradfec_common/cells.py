"""What became of each packet of a tensor, for people to look at."""

from __future__ import annotations

import enum


class Cell(enum.IntEnum):
    """What became of one packet of a tensor."""

    SENT = 0  # bare, and it arrived
    PROTECTED = 1  # with parity, and it arrived
    RECOVERED = 2  # lost, and recovered by parity
    LOST = 3  # lost, bare: filled
    UNRECOVERED = 4  # lost, in spite of parity: filled
    DROPPED = 5  # dropped by the plan, so never sent: filled
    ABSENT = 6  # dropped or lost, but it is not known here which: filled
