"""The pages are short, their links lead somewhere, and the README's numbers are those of the pages that it names."""

import re
import subprocess
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, anchors, links, name

README = (ROOT / "README.md").read_text()
COMPARISON = (ROOT / "docs/explanation/comparison.md").read_text()
LONG = {"CONTRIBUTING.md", "docs/reference/protocol.md", "docs/explanation/results.md"}
LINKS = {  # as the README says it: as the comparison calls it
    "loses nothing": "clean",
    "1 Mbit/s, 5 % lost": "1mbit-5",
    "1 Mbit/s, 20 % lost in bursts": "1mbit-bursts",
    "2 Mbit/s, 50 % lost": "2mbit-half",
    "300 kbit/s, loses nothing": "300kbit",
}
COLUMNS = ("auto", "jpeg-tcp", "h264-srt-120")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_short(page: Path) -> None:
    lines = page.read_text("utf-8").count("\n")
    if name(page) not in LONG:
        assert lines <= (120 if page.stem == "README" else 200)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for file, anchor in links(page):
        assert file.exists(), file
        assert not anchor or anchor in anchors(file), f"{file}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_installed_is_the_clone_because_no_package_index_has_gradfec(page: Path) -> None:
    assert not re.search(r"pip install .*'gradfec\b", page.read_text("utf-8"))


def test_each_page_that_the_code_names_exists() -> None:
    found = subprocess.run(
        ["git", "grep", "-hoE", r"docs/[A-Za-z0-9/-]+\.(md|png)"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip("this is no clone")
    assert {path for path in found.stdout.split() if not (ROOT / path).exists()} == set()


def test_the_readmes_table_is_the_comparisons() -> None:
    shares, _, latencies = tables(COMPARISON)
    rows = {cells[0]: cells[1:] for cells in rows_of(README) if cells[0] in LINKS}
    assert {*rows} == {*LINKS}
    for link, cells in rows.items():
        for column, cell in zip(COLUMNS, cells, strict=True):
            share = shares[LINKS[link]][column].strip("*").split()[0]
            rate = latencies[LINKS[link]][column].rpartition(", ")[2]
            assert cell.replace("*", "") == f"{share} %, {rate} kbit/s", (link, column)


def tables(page: str) -> list[dict[str, dict[str, str]]]:
    """Return the tables by link and rival: right within 300 ms, within 1 s, latency and rate."""
    found: list[dict[str, dict[str, str]]] = []
    for cells in rows_of(page):
        if cells[:2] == ["link", "`auto`"]:
            rivals = [cell.strip("`") for cell in cells[1:]]
            found.append({})
        elif found and len(cells) == len(rivals) + 1:
            found[-1][cells[0].strip("`")] = dict(zip(rivals, cells[1:], strict=True))
    return found


def rows_of(page: str) -> list[list[str]]:
    """Return the cells of each row of each table."""
    return [[cell.strip() for cell in row.split("|")] for row in re.findall(r"^\| (.*) \|$", page, re.MULTILINE)]
