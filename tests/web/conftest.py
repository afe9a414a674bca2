"""A browser, its tabs, and the pages that they visit."""

from __future__ import annotations

import contextlib

import pytest
from playwright import sync_api as playwright
from tests.web.visits import CHROMIUM, Visitor, served


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    visitors = []

    def visit(url, **options):
        visitors.append(Visitor(browser, **options))
        visitors[-1].page.goto(url)
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.context.close()


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:
        yield lambda *given, **named: stack.enter_context(served(*given, **named))
