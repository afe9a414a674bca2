"""Reading docs/reference/protocol.md: its sections and its tables."""

from __future__ import annotations

import re
from pathlib import Path

PROTOCOL = (Path(__file__).parents[2] / "docs" / "reference" / "protocol.md").read_text("utf-8")
IN_ONE_LINE = " ".join(PROTOCOL.split())


def section(heading: str) -> str:
    """What stands under a heading, up to the next one."""
    return re.split(r"^#", PROTOCOL.split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def tables(heading: str) -> list[list[list[str]]]:
    """The tables under a heading: the cells of each line, the lines of headers and dashes left out."""
    found = re.findall(r"(?:^\|.*\|$\n?)+", section(heading), re.MULTILINE)
    return [[[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()[2:]] for table in found]


def layout(rows: list[list[str]]) -> list[tuple[str, int, int]]:
    """The name, offset and size of each field of a table that has a number for all three."""
    return [(name, int(offset), int(size)) for offset, size, name, *_ in rows if offset.isdigit() and size.isdigit()]


def names_in(text: str) -> list[str]:
    """What stands between `backticks`."""
    return re.findall(r"`(\w+)`", text)
