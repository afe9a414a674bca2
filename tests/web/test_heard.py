"""Nothing on the page says live or connected that is not, in a real browser."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest
from playwright import sync_api as playwright
from tests.web.live import PATIENCE_S
from tests.web.visits import World, at
from tests.web.world import Camera, picture_of_noise

expect = playwright.expect
expect.set_options(timeout=1000 * PATIENCE_S)
CLAIMS = re.compile(r"\blive\b|(?<!dis)\bconnected\b", re.IGNORECASE)


def colour(page, selector, name="color"):
    return page.locator(selector).first.evaluate(f"element => getComputedStyle(element)['{name}']")


def last_heard(page):
    expect(page.locator(".heard")).to_have_text(re.compile(r"^last heard \d+\Ws ago$"))
    return int(re.search(r"\d+", page.locator(".heard").text_content())[0])


def red(page):
    """Whether the header is red, which is not its usual colour."""
    channels = re.findall(r"\d+", colour(page, ".top", "backgroundColor"))[:3]
    return int(channels[0]) > 2 * max(map(int, channels[1:]))


def world(role, cameras=1):
    made = [Camera(f"camera {n}", n + 1, role=role, seed=n) for n in range(cameras)]
    made[0].photographs = [picture_of_noise(np.random.default_rng(0))]
    made[0].sketches = True
    return World(role, made)


@pytest.mark.parametrize(
    ("role", "cameras", "server"),
    [
        ("edge", 2, "still there"),
        pytest.param("cloud", 2, "gone, too", marks=pytest.mark.slow),
        pytest.param("edge", 1, "gone, too", marks=pytest.mark.slow),
        pytest.param("edge", 1, "still there", marks=pytest.mark.slow),
        pytest.param("edge", 2, "gone, too", marks=pytest.mark.slow),
        pytest.param("cloud", 2, "still there", marks=pytest.mark.slow),
    ],
)
def test_a_dead_daemon_turns_the_header_red_which_counts_for_how_long_and_the_numbers_fade(
    role, cameras, server, serve, visit
):
    live = serve(world(role, cameras), past=20)
    visitor = visit(live.url)
    page = visitor.page
    expect(page.locator(".live")).to_have_text("live")
    expect(page.get_by_alt_text(re.compile("What the camera saw"))).to_be_visible()
    assert CLAIMS.search(page.locator("body").inner_text()) and not red(page)
    numbers = [".cost dd", ".tile .value", ".first", *([".edges td:not(:first-child)"] if cameras > 1 else [])]
    fresh = [colour(page, one) for one in numbers]
    if server == "gone, too":
        live.stop()
    else:
        live.feed(list)
    first = last_heard(page)
    page.wait_for_timeout(2500)
    assert first + 1 <= last_heard(page) <= first + 4
    assert red(page)
    assert not CLAIMS.search(page.locator("body").inner_text())
    faded = [colour(page, one) for one in numbers]
    assert all(now != before for now, before in zip(faded, fresh, strict=True))
    assert "grayscale" in colour(page, ".shot", "filter") and "grayscale" in colour(page, ".map", "filter")
    assert visitor.violations() == []


def test_a_page_that_is_opened_while_the_daemon_is_dead_counts_from_when_it_was_last_heard(serve, visit):
    made = world("edge")
    live = serve(made, past=5)
    live.feed(list)
    live.tell([replace(made.status(), at=time.time() - 40)])
    page = visit(live.url).page
    assert last_heard(page) >= 40
    assert not CLAIMS.search(page.locator("body").inner_text())


def test_a_daemon_that_is_heard_again_is_live_again(serve, visit):
    made = world("edge")
    live = serve(made, past=5)
    page = visit(live.url).page
    expect(page.locator(".live")).to_have_text("live")
    live.feed(list)
    last_heard(page)
    live.feed(made)
    expect(page.locator(".heard")).to_be_empty()
    expect(page.locator(".live")).to_be_visible()
    assert not red(page)


def test_before_the_daemon_is_heard_the_page_waits_and_says_nothing_else(serve, visit):
    page = visit(at(serve(None))).page
    expect(page.locator(".live")).to_have_text("waiting for the daemon")
    page.wait_for_timeout(6000)
    expect(page.locator(".heard")).to_be_empty()
    assert not red(page)


def test_an_edge_whose_cloud_is_away_is_red_too_although_its_daemon_is_heard(serve, visit):
    made = world("edge")
    live = serve(made, past=20)
    visitor = visit(live.url)
    page = visitor.page
    expect(page.locator(".live")).to_have_text("live")
    away = replace(
        made.cameras[0].edge(time.time()), connected=False, since=time.time() - 25, said="the cloud is silent"
    )
    live.feed(lambda: [replace(made.status(), edges=[away])])
    expect(page.locator(".live")).to_have_text(re.compile(r"^cloud away for \d+\Ws$"))
    expect(page.locator(".verdict")).to_have_text("No answers now: the cloud is silent.")
    assert red(page)
    assert not CLAIMS.search(page.locator("body").inner_text())
    assert "grayscale" in colour(page, ".shot", "filter")
    assert visitor.violations() == []


def test_a_camera_that_has_stopped_is_not_live_although_the_edge_is_connected(serve, visit):
    made = world("edge")
    live = serve(made, past=5)
    page = visit(live.url).page
    expect(page.locator(".live")).to_have_text("live")
    live.feed(lambda: [made.status()])
    expect(page.locator(".live")).to_have_text(re.compile(r"^no frame for \d+\Ws$"))
    expect(page.locator(".verdict")).to_have_text("No frame in the last 10\N{NO-BREAK SPACE}s.")


def test_no_dot_is_green_of_an_edge_whose_answers_may_be_wrong(serve, visit):
    good, bad = Camera("good", 1, loss=0.0, role="edge"), Camera("bad", 2, loss=0.6, role="edge")
    page = visit(serve(World("edge", [good, bad]), past=10).url).page
    expect(page.get_by_role("button", name="good")).to_have_class("pick good")
    expect(page.get_by_role("button", name="bad")).to_have_class("pick bad")
    assert colour(page, ".pick.good .dot", "backgroundColor") != colour(page, ".pick.bad .dot", "backgroundColor")
    page.get_by_role("button", name="bad").click()
    expect(page.locator(".live")).to_have_class("live bad")
