"""What leads the page, and that it reads at a glance: in a real browser."""

import re
from dataclasses import replace

import numpy as np
import pytest
from playwright import sync_api as playwright
from tests.web.live import PATIENCE_S
from tests.web.visits import DESKTOP, PHONE, World
from tests.web.world import CHANNELS, GROUPS, Camera, picture_of_noise

from gradfec_web.view import Frame, Picture

expect = playwright.expect
expect.set_options(timeout=1000 * PATIENCE_S)
LONG = "the-camera-behind-the-house-over-the-garage-door-" * 3
SHIFTS = """() => {
    window.shifts = [];
    new PerformanceObserver(list => window.shifts.push(...list.getEntries().map(one => one.value)))
        .observe({type: "layout-shift", buffered: true});
}"""


def camera(name="kitchen", session=1, **settings):
    made = Camera(name, session, role="edge")
    made.photographs = [picture_of_noise(np.random.default_rng(0))]
    for setting, value in settings.items():
        setattr(made, setting, value)
    return made


@pytest.fixture(scope="module")
def edge():
    from tests.web.visits import served

    with served(World("edge", [camera(ratio=1.5)]), past=60) as live:
        yield live


def box(page, selector):
    while True:  # between the two, the page may have put another element in its place
        expect(page.locator(selector).first).to_be_visible()
        if found := page.locator(selector).first.bounding_box():
            return found


def test_picture_answer_and_how_sure_stand_from_left_to_right_and_the_mosaic_is_one_fold_lower(edge, visit):
    page = visit(edge.url).page
    picture, answer, sure, sentence = (box(page, one) for one in (".shot", ".first", ".sure", ".verdict"))
    assert picture["x"] + picture["width"] <= answer["x"]
    assert answer["x"] + answer["width"] <= sure["x"]
    assert sure["y"] < sentence["y"] < box(page, ".cost")["y"] < DESKTOP[1]
    assert picture["width"] >= 0.4 * DESKTOP[0]
    assert picture["width"] / picture["height"] == pytest.approx(1.5, abs=0.01)  # not squashed
    size = float(page.locator(".first").evaluate("one => parseFloat(getComputedStyle(one).fontSize)"))
    assert size > 1.3 * float(
        page.locator(".tile .value").first.evaluate("one => parseFloat(getComputedStyle(one).fontSize)")
    )
    assert box(page, ".map")["y"] >= DESKTOP[1]


def test_the_sentence_and_the_agreement_come_from_the_frames(serve, visit):
    bad = camera("yard", 2, loss=0.6, protect="FEC_20_80")
    auto = camera("hall", 1, loss=0.15, protect="auto", expected=0.87)
    page = visit(serve(World("edge", [auto, bad]), past=10).url).page
    expect(page.locator(".verdict")).to_have_text(re.compile("uncut network"))  # before that, a click may get lost
    page.get_by_role("button", name="yard").click()
    expect(page.locator(".edge h2")).to_have_text("yard")
    expect(page.locator(".verdict")).to_have_text(
        re.compile(r"^[56]\d\W% lost, more than FEC_20_80 repairs: answers may be wrong; choose auto.$")
    )
    expect(page.locator(".verdict")).to_have_class("verdict bad")
    expect(page.locator(".policy")).to_have_text(re.compile("^FEC_20_80: the 20 % of the packets that matter least"))
    page.get_by_role("button", name="hall").click()
    expect(page.locator(".verdict")).to_have_text(
        re.compile(r"^1\d\W% lost, .*: 87\W% of the answers should agree with the uncut network.$")
    )
    expect(page.locator(".cost > div", has_text="expected to agree").locator("dd")).to_have_text(re.compile(r"^87\W%$"))
    expect(page.locator(".policy")).to_have_text(re.compile("^auto: the link decides"))


def test_an_edge_with_several_cameras_has_a_picker_and_each_its_own_settings(serve, visit):
    cameras = [camera("hall", 1, protect="auto"), camera("yard", 2, protect="none")]
    visitor = visit(serve(World("edge", cameras), past=5).url)
    page = visitor.page
    expect(page.get_by_role("heading", name="Cameras")).to_be_visible()
    expect(page.locator(".edges tbody tr")).to_have_count(2)
    page.get_by_text("Settings").click()
    for name, settings in (("yard", "none: every packet"), ("hall", "auto: the link decides")):
        page.get_by_role("button", name=name).click()
        expect(page.locator(".edge h2")).to_have_text(name)
        expect(page.locator(".pairs dd", has_text=settings)).to_be_visible()
    page.reload()
    expect(page.locator(".edge h2")).to_have_text("hall")
    assert visitor.violations() == []


def test_the_bands_are_an_overlay_with_a_switch_and_at_first_off(edge, visit):
    page = visit(edge.url).page
    expect(page.locator(".shot")).to_be_visible()
    bands = page.get_by_alt_text(re.compile(r"band \d of 8 from the top matters most"))
    switch = page.get_by_role("switch", name="Importance")
    expect(switch).to_have_attribute("aria-checked", "false")
    expect(bands).to_be_hidden()
    before = box(page, ".shot")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    expect(bands).to_be_visible()
    assert bands.bounding_box() == box(page, ".shot") == before
    switch.click()
    expect(bands).to_be_hidden()


BOXES = [("traffic_light", 0.81, (0.1, 0.2, 0.4, 0.9)), ("cup", 0.46, (0.5, 0.5, 0.9, 0.8))]


def test_boxes_lie_on_the_photograph_and_have_a_switch(serve, visit):
    visitor = visit(serve(World("edge", [camera(ratio=1.5, boxes=BOXES)]), past=5).url)
    page = visitor.page
    found = page.get_by_alt_text(re.compile(r"^Found: traffic light, 81\W%; cup, 46\W%$"))
    expect(found).to_be_visible()
    assert found.bounding_box() == box(page, ".shot")
    assert found.evaluate("one => one.complete && one.naturalWidth > 0")  # the browser can read it
    expect(page.locator(".first")).to_have_text("traffic light")
    switch = page.get_by_role("switch", name="Boxes")
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    expect(found).to_be_hidden()
    switch.click()
    expect(found).to_be_visible()
    assert visitor.violations() == []


def test_a_detector_that_finds_nothing_has_an_answer_and_a_classifier_has_no_switch_for_boxes(edge, serve, visit):
    page = visit(serve(World("edge", [camera(boxes=[])]), past=5).url).page
    expect(page.locator(".first")).to_have_text("nothing to name")
    expect(page.get_by_role("switch", name="Boxes")).to_be_visible()
    expect(page.get_by_alt_text(re.compile("^Found"))).to_be_hidden()
    expect(visit(edge.url).page.get_by_role("switch", name="Boxes")).to_be_hidden()


def test_where_the_importance_is_not_known_there_is_no_switch_for_it(serve, visit):
    made = Camera("kitchen", 1)
    page = visit(serve(World("cloud", [made]), past=5).url).page
    expect(page.locator(".fates .map")).to_be_visible()
    expect(page.get_by_role("switch", name="Importance")).to_have_count(0)
    expect(page.locator(".photograph figcaption .note")).to_be_hidden()


@pytest.mark.parametrize(
    "changes", [{"of_file": True}, {"channels": CHANNELS * GROUPS, "groups": 1}], ids=["picture", "bottleneck"]
)
def test_where_no_part_of_the_photograph_is_ranked_above_another_there_is_no_switch(changes, serve, visit):
    made = camera()
    plain = made.frame

    def frame(at):
        one, picture = plain(at)
        return one, replace(picture, **changes)

    made.frame = frame
    visitor = visit(serve(World("edge", [made]), past=5).url)
    page = visitor.page
    expect(page.locator(".fates .map")).to_be_visible()
    expect(page.locator(".shot")).to_be_visible()
    expect(page.get_by_role("switch", name="Importance")).to_have_count(0)
    expect(page.locator(".photograph figcaption .note")).to_be_hidden()
    if "of_file" in changes:
        expect(page.locator(".ranks .map")).to_be_hidden()
        expect(page.locator(".ranks")).to_contain_text("the cloud needs all pieces of its file")
        expect(page.get_by_text("Dark packets matter least")).to_be_hidden()
    else:
        expect(page.locator(".ranks .map")).to_be_visible()
        expect(page.get_by_text("Dark packets matter least")).to_be_visible()
    assert visitor.violations() == []


def test_outcomes_have_their_colours(serve, visit):
    made = camera(loss=0.3)
    plain = made.frame
    outcomes = ["complete", "partial", "timeout"]

    def frame(at):
        one, picture = plain(at)
        return replace(one, outcome=outcomes[one.number % 3]), picture

    made.frame = frame
    page = visit(serve(World("edge", [made]), past=12).url).page
    colours = set()
    for outcome in outcomes:
        chip = page.locator(".chip", has_text=outcome).first
        expect(chip).to_be_visible()
        colours.add(chip.evaluate("one => getComputedStyle(one).color"))
    ink = page.locator("body").evaluate("one => getComputedStyle(one).color")
    assert len(colours | {ink}) == 4


def test_a_scale_stands_at_the_importance_map(edge, visit):
    page = visit(edge.url).page
    importance, scale = page.locator(".ranks .map"), page.locator(".ranks .scale")
    expect(importance).to_be_visible()
    expect(scale).to_have_text("matters leastmatters most")
    below = scale.bounding_box()["y"] - (importance.bounding_box()["y"] + importance.bounding_box()["height"])
    assert 0 <= below < 30
    stops = re.findall(r"rgb\((\d+), (\d+), (\d+)\)", scale.locator(".colours").evaluate("e => e.style.background"))
    lightness = [sum(map(int, stop)) for stop in stops]
    assert len(stops) == 8 and lightness == sorted(lightness)


def test_settings_and_counts_look_openable_and_hold_words(edge, visit):
    page = visit(edge.url).page
    for name in ("Settings", "Counted since the start"):
        fold = page.locator("details", has_text=name)
        summary = fold.locator("summary")
        expect(summary).to_be_visible()
        hint, arrow = (
            summary.evaluate(f"one => getComputedStyle(one, '{part}')['{which}']")
            for part, which in (("::after", "content"), ("::before", "transform"))
        )
        assert hint == '"show"' and arrow != "none"
        assert summary.evaluate("one => getComputedStyle(one).cursor") == "pointer"
        expect(fold.locator("dl")).to_be_hidden()
        summary.click()
        expect(fold.locator("dl")).to_be_visible()
        assert summary.evaluate("one => getComputedStyle(one, '::after').content") == '"hide"'
        text = fold.locator("dl").inner_text()
        assert not re.search(r"\b(None|True|False)\b|[\[\]{}'\"]", text)
        assert not any("_" in name for name in fold.locator("dt").all_inner_texts())
    expect(page.locator(".pairs", has_text="codes")).to_contain_text("zfec, leopard")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_jumps_from_the_first_visit_to_the_first_sketch(size, serve, visit):
    world = World("edge", [camera()])
    live = serve(None)
    live.feed(lambda: [world.status()])
    visitor = visit(live.url, size=size)
    page = visitor.page
    page.evaluate(SHIFTS)
    expect(page.locator(".verdict")).to_contain_text("No frame has an answer yet")
    lead = box(page, ".lead")
    live.feed(lambda: [one for one in world() if not isinstance(one, Picture)])
    expect(page.locator(".first")).to_have_text(re.compile("[a-z]"))
    page.wait_for_timeout(1500)
    live.feed(world)
    expect(page.locator(".shot")).to_be_visible()
    expect(page.locator(".ranks .map")).to_be_visible()
    page.wait_for_timeout(1500)
    assert box(page, ".lead") == lead
    assert sum(page.evaluate("window.shifts")) < 0.002
    page.evaluate("document.querySelector('.lead').style.marginTop = '90px'")  # what a jump would have measured
    page.wait_for_function("window.shifts.reduce((sum, one) => sum + one, 0) > 0.02")
    assert visitor.complaints == []


def test_a_sketch_does_not_move_the_clouds_page_either(serve, visit):
    made = Camera("kitchen", 1)
    live = serve(World("cloud", [made]), past=10)
    page = visit(live.url).page
    expect(page.locator(".fates .map")).to_be_visible()
    expect(page.locator(".ranks")).to_contain_text("Only the edge knows")
    before = [box(page, one) for one in (".lead", ".fates .map", ".legend", ".frames")]
    made.photographs, made.sketches = [picture_of_noise(np.random.default_rng(0))], True
    expect(page.locator(".ranks .map")).to_be_visible()
    expect(page.locator(".shot")).to_be_visible()
    assert [box(page, one) for one in (".lead", ".fates .map", ".legend", ".frames")] == before


@pytest.mark.parametrize("role", ["edge", "cloud"])
def test_long_names_wrap_on_a_phone(role, serve, visit):
    cameras = [Camera(LONG, 1, role=role), Camera("yard", 2, role=role)]
    plain = cameras[0].frame

    def frame(at):
        one, picture = plain(at)
        answer = [("a-" * 60, 0.5), ("b" * 120, 0.2)]
        changed = {Frame: {"source": f"{LONG}.jpg"}, Picture: {}}
        return tuple(replace(it, answer=answer, **changed[type(it)]) for it in (one, picture))

    cameras[0].frame = frame
    world = World(role, cameras)
    plain_status = world.status
    world.status = lambda: replace(plain_status(), title=LONG)
    visitor = visit(serve(world, past=5).url + f"?edge={LONG}", size=PHONE)
    page = visitor.page
    expect(page.locator(".first")).to_have_text("a-" * 60)
    assert visitor.overflow() == 0
    for name in (".top .name", ".edge h2", ".pick bdi", ".first"):
        expect(page.locator(name).first).to_be_visible()
        shown = box(page, name)
        assert shown["x"] + shown["width"] <= PHONE[0]
        assert shown["height"] > 30, f"{name} is one line"
