"""The pages of the docs, and what stands in them: blocks of code, inline code, headings, links."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(path for package in ("common", "edge") for path in (ROOT / package).rglob("MODEL_CARD.md")),
]  # fmt: skip

FENCED = r"^```\w*\n(.*?)^```"


def name(page: Path) -> str:
    """Return a page's path in the repository, for the names of tests."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[str]:
    """Yield each block of code: those between fences, and those indented by four spaces, without the indentation."""
    text = page.read_text("utf-8")
    yield from re.findall(FENCED, text, re.MULTILINE | re.DOTALL)
    for block in re.findall(r"(?:^\n|\A)((?:    .*\n(?:\n(?=    ))*)+)", text, re.MULTILINE):
        yield re.sub(r"^    ", "", block, flags=re.MULTILINE)


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    unfenced = re.sub(FENCED, "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*\n", "", unfenced, flags=re.MULTILINE)


def inline(page: Path) -> list[str]:
    """Return each piece of inline code, on one line."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


def anchors(page: Path) -> set[str]:
    """Return what a link to a heading of the page ends with."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    """Return file and anchor of each link that stays in the repository."""
    found = re.findall(r"\]\((?!\w+://)([^)#]*)#?([^)]*)\)", prose(page))
    return [((page.parent / path).resolve() if path else page, anchor) for path, anchor in found]
