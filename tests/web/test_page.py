"""The live page in a real browser, fed by a made-up daemon."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest
from playwright import sync_api as playwright
from tests.web.live import PATIENCE_S
from tests.web.visits import DESKTOP, PHONE, Visitor, World, at, served
from tests.web.world import DATAGRAMS, Camera, picture_of_noise

from gradfec_common.cells import Cell
from gradfec_web import charts, words
from gradfec_web.view import Edge, Picture, Workers

expect = playwright.expect
expect.set_options(timeout=1000 * PATIENCE_S)
LAST_HEARD = re.compile(r"^last heard (\d+)\Ws ago$")
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>{{1+1}}\'"`'


@pytest.fixture(scope="module")
def cloud():
    """Two edges that are there, one of them with photographs, and one that is gone."""
    cameras = [Camera("kitchen", 1, loss=0.2), Camera("back yard", 2, loss=0.35, seed=1)]
    cameras[0].photographs = [picture_of_noise(np.random.default_rng(0))]
    world = World("cloud", cameras)
    world.gone = [Edge("garage", 3, "192.0.2.3:4000", False, time.time(), "idle")]
    with served(world, past=120) as live:
        yield live


@pytest.fixture(scope="module")
def tab(browser, cloud):
    """A tab that shows the cloud's page."""
    tab = Visitor(browser)
    tab.page.goto(at(cloud))
    return tab


@pytest.fixture(scope="module")
def edge():
    camera = Camera("kitchen", 1, role="edge")
    camera.photographs = [picture_of_noise(np.random.default_rng(0))]
    with served(World("edge", [camera]), past=120) as live:
        yield live


def tile(page, name):
    return page.locator(".tile", has=page.get_by_text(name, exact=True)).locator(".value")


def test_the_page_fills_with_what_the_cloud_tells_and_moves(tab, cloud):
    page = tab.page
    expect(page).to_have_title("127.0.0.1:9000 – gradfec cloud")
    expect(page.locator(".live")).to_have_text("live")
    expect(page.get_by_role("heading", name="Edges")).to_be_visible()
    expect(page.get_by_text("2 connected")).to_be_visible()
    expect(page.locator(".edge h2")).to_have_text("kitchen")
    expect(page.locator(".first")).to_have_text(re.compile("Egyptian cat|espresso|space shuttle"))
    for name in ("Frames a second", "Latency", "Loss", "Burst", "Recovered", "Missing"):
        expect(tile(page, name)).to_have_text(re.compile(r"\d"))
    expect(page.get_by_alt_text(re.compile("256 channels of 8 packets each: .* recovered"))).to_be_visible()
    expect(page.get_by_alt_text(re.compile("What the camera saw in frame"))).to_be_visible()
    expect(page.locator(".ranks")).to_contain_text("Only the edge knows")
    expect(page.get_by_role("img", name=re.compile("over .*: .* now, .* to"))).to_have_count(5)
    expect(page.locator(".nicegui-echart svg path").nth(20)).to_be_attached()
    for name in ("network and waiting", "recovered"):
        expect(page.locator(".key span", has_text=name)).to_be_visible()
    assert page.evaluate(f"(value => {charts.WRITE % 1})(1234.56)") == words.number(1234.56, 1)
    lost = page.locator(".frames tbody tr").first.locator("td").nth(4)
    assert 0 < int(lost.text_content()) < DATAGRAMS
    first = page.locator(".frames tbody tr").first.locator("td").first
    number = int(first.text_content())
    expect(first).not_to_have_text(str(number))
    assert tab.complaints == []
    assert tab.hosts == {str(cloud.endpoint)}


def test_an_edge_is_chosen_by_its_name_and_stays_chosen_after_a_reload(tab):
    page = tab.page
    page.get_by_role("button", name="back yard").click()
    expect(page.locator(".edge h2")).to_have_text("back yard")
    expect(page.get_by_role("button", name="back yard")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".photograph")).to_contain_text("No picture to show")
    page.reload()
    expect(page.locator(".edge h2")).to_have_text("back yard")


def test_an_edge_that_is_gone_is_shown_with_the_reason(tab):
    page = tab.page
    expect(page.locator(".edges tr", has_text="garage")).to_contain_text("it was silent for too long")
    page.get_by_role("button", name="garage").click()
    expect(page.locator(".edge .state")).to_contain_text("it was silent for too long")
    expect(page.locator(".verdict")).to_have_text("No answers now: it was silent for too long.")


def test_a_fate_can_be_seen_alone(tab):
    page = tab.page
    page.get_by_role("button", name="kitchen").click()
    fate = page.get_by_role("button", name="recovered", exact=True)
    fate.click()
    expect(fate).to_have_attribute("aria-pressed", "true")
    fate.click()
    expect(fate).to_have_attribute("aria-pressed", "false")


def test_colours_follow_the_system_or_the_switch_which_is_remembered(tab):
    page = tab.page
    body = page.locator("body")
    page.emulate_media(color_scheme="dark")
    expect(body).to_have_class(re.compile("body--dark"))
    page.emulate_media(color_scheme="light")
    expect(body).to_have_class(re.compile("body--light"))
    page.get_by_role("button", name="dark", exact=True).click()
    expect(body).to_have_class(re.compile("body--dark"))
    page.reload()
    expect(page.get_by_role("button", name="dark", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(body).to_have_class(re.compile("body--dark"))


@pytest.mark.parametrize(
    ("role", "size"),
    [
        pytest.param("cloud", DESKTOP, id="cloud-desktop"),
        pytest.param("edge", PHONE, id="edge-phone"),
        pytest.param("cloud", PHONE, id="cloud-phone", marks=pytest.mark.slow),
        pytest.param("edge", DESKTOP, id="edge-desktop", marks=pytest.mark.slow),
    ],
)
def test_the_page_is_accessible_and_fits_its_window_light_and_dark(role, size, visit, request):
    visitor = visit(at(request.getfixturevalue(role)), size=size)
    expect(visitor.page.locator(".nicegui-echart svg path").first).to_be_attached()
    expect(visitor.page.locator(".map").first).to_be_visible()
    for fold in visitor.page.locator("summary").all():
        fold.click()
    for scheme in ("light", "dark"):
        visitor.page.emulate_media(color_scheme=scheme)
        expect(visitor.page.locator("body")).to_have_class(re.compile(f"body--{scheme}"))
        assert visitor.violations() == []
        assert visitor.overflow() == 0
    assert visitor.complaints == []


def test_the_edges_own_page_has_the_photograph_with_its_importance_and_the_map_beside_the_packets(edge, visit):
    visitor = visit(at(edge))
    page = visitor.page
    expect(page).to_have_title("/dev/video0 – gradfec edge")
    expect(page.get_by_alt_text(re.compile("What the camera saw in frame"))).to_be_visible()
    expect(page.get_by_alt_text("The importance of the same packets in the same places")).to_be_visible()
    boxes = [shown.bounding_box() for shown in page.locator(".map").all()]
    assert [boxes[0][side] for side in ("y", "width", "height")] == [
        boxes[1][side] for side in ("y", "width", "height")
    ]
    expect(page.locator(".edges")).to_be_hidden()
    expect(page.locator(".frames")).to_contain_text("photos/cat.jpg")
    expect(page.locator(".legend tbody tr")).to_have_count(len(Cell))
    expect(page.get_by_role("row", name=re.compile("^dropped by plan"))).to_contain_text("50\N{NO-BREAK SPACE}%")
    assert visitor.hosts == {str(edge.endpoint)}


def test_users_who_prefer_reduced_motion_get_none(edge, visit):
    page = visit(at(edge), reduced_motion="reduce").page
    expect(page.locator(".map").first).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0


def test_a_browser_that_was_left_open_comes_back_live_when_the_daemon_does(serve, visit):
    world = World("cloud", [Camera("kitchen", 1), Camera("back yard", 2)])
    live = serve(world)
    visitor = visit(at(live) + "?edge=back%20yard")
    page = visitor.page
    expect(page.locator(".edge h2")).to_have_text("back yard")
    live.stop()
    expect(page.locator(".heard")).to_have_text(LAST_HEARD)
    live.start()
    live.feed(World("cloud", [Camera("back yard", 7), Camera("kitchen", 8)]))
    expect(page.locator(".heard")).to_be_empty()
    expect(page.locator(".edge h2")).to_have_text("back yard")
    expect(page.locator(".live")).to_have_text("live")
    expect(page.locator(".first")).to_have_text(re.compile("[a-z]"))


def test_what_comes_from_the_network_is_never_markup(serve, visit):
    camera = Camera(EVIL, 1, role="edge")
    camera.photographs = ['" onerror="window.hacked=1']

    class Evil(World):
        def __call__(self):
            records = []
            for record in super().__call__():
                name = type(record).__name__
                changes = {}
                if name == "Frame":
                    answer = [(EVIL, 0.5)]
                    changes = {"source": EVIL, "outcome": EVIL, "stages_ms": {EVIL: 1.0, ":x": 2.0}, "answer": answer}
                if name == "Picture":
                    changes = {"answer": [(EVIL, 0.5)]}
                if name == "Status":
                    edges = [Edge(EVIL, 1, EVIL, True, 0.0, EVIL), Edge(EVIL, 2, EVIL, False, 0.0, EVIL)]
                    changes = {"title": EVIL, "settings": {EVIL: EVIL}, "counters": {EVIL: {EVIL: 1}}, "edges": edges}
                records.append(type(record)(**{**record.__dict__, **changes}))
            return records

    visitor = visit(serve(Evil("cloud", [camera]), past=10).url, size=PHONE)
    page = visitor.page
    expect(page.locator(".edge h2")).to_have_text(EVIL)
    expect(page.locator(".first")).to_have_text(EVIL.replace("_", " "))
    expect(page.locator(".pick bdi").first).to_have_text(EVIL)
    expect(page.get_by_role("img", name=re.compile("Latency by stage.*onerror"))).to_be_attached()
    page.get_by_role("button", name=re.compile("onerror")).last.click()
    page.reload()
    expect(page).to_have_title(f"{EVIL} – gradfec cloud")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0
    assert visitor.overflow() == 0


def test_an_edges_warnings_stand_above_its_frames_as_text_until_they_are_over(serve, visit):
    world = World("edge", [Camera("kitchen", 1, role="edge")])
    warned = replace(world.cameras[0].edge(time.time()), warnings=[f"the link {EVIL} is slow", "it is dark"])
    world.cameras[0].edge = lambda now: warned
    live = serve(world, past=5)
    visitor = visit(live.url)
    alert = visitor.page.get_by_role("alert")
    expect(alert).to_have_text(f"The link {EVIL} is slow. It is dark.")
    assert visitor.violations() == []
    warned = replace(warned, warnings=[])
    expect(alert).to_have_count(0)


def test_how_many_workers_a_cloud_has_is_said_and_stands_out_while_some_are_missing(serve, visit):
    world = World("cloud", [Camera("kitchen", 1)])
    live = serve(world, past=5)
    visitor = visit(live.url)
    workers = visitor.page.get_by_role("status")
    expect(visitor.page.locator(".tiles")).to_be_visible()
    expect(workers).to_have_count(0)
    world.options["workers"] = Workers(2, 2, 0, fallback=False)
    expect(workers).to_have_text("2 workers are there.")
    expect(workers).not_to_have_class(re.compile("warning"))
    assert visitor.violations() == []
    world.options["workers"] = Workers(0, 2, 2, fallback=False)
    expect(workers).to_have_text("No worker is there. No frame is answered until one is. 2 were lost since the start.")
    expect(workers).to_have_class(re.compile("warning"))
    assert visitor.violations() == []
    live.stop()
    expect(workers).to_be_hidden()


@pytest.mark.parametrize(("role", "name"), [("edge", "a frame, sent"), ("cloud", "a frame, received")])
def test_the_bytes_of_a_frame_and_their_rate_stand_beside_the_sentence(role, name, serve, visit):
    live = serve(World(role, [Camera("kitchen", 1, role=role)]), past=5)
    costs = visit(live.url).page.locator(".cost > div")
    expect(costs.filter(has_text=name).locator("dd")).to_have_text("271\N{NO-BREAK SPACE}kB")
    expect(costs.filter(has_text="the link").locator("dd")).to_have_text(re.compile("[1-9].*bit/s$"))


def test_why_the_newest_frame_is_as_it_is_is_said_until_the_link_is_lost_and_never_without_a_reason(serve, visit):
    camera = Camera("kitchen", 1, role="edge")
    live = serve(World("edge", [camera]), past=5)
    visitor = visit(live.url)
    why = visitor.page.locator(".why")
    expect(visitor.page.locator(".tiles")).to_be_visible()
    expect(why).to_be_empty()
    plain = camera.frame
    camera.frame = lambda at: tuple(replace(one, **{"why": EVIL} if hasattr(one, "why") else {}) for one in plain(at))
    expect(why).to_have_text(f"Why the newest frame is as it is: {EVIL}")
    assert visitor.violations() == []
    away = replace(camera.edge(time.time()), connected=False, since=time.time())
    camera.edge = lambda now: away
    expect(why).to_be_empty()


def test_without_an_edge_or_a_frame_it_says_what_to_do_and_without_a_key_it_warns(serve, visit):
    live = serve(None)
    page = visit(live.url).page
    expect(page.locator(".body")).to_have_text("Waiting for the daemon.")
    world = World("cloud", [], insecure=True, not_ready="the back-end is being loaded")
    live.feed(world)
    expect(page.locator(".body")).to_contain_text("No edge can connect now: the back-end is being loaded.")
    del world.options["not_ready"]
    expect(page.locator(".body")).to_contain_text("No edge has connected yet.")
    expect(page.locator("code")).to_have_text("gradfec-edge --camera /dev/video0 --cloud 127.0.0.1:9000 --insecure")
    expect(page.get_by_role("alert")).to_contain_text("anybody may join")
    world.gone = [Edge("kitchen", 1, "", True, time.time())]
    expect(page.locator(".verdict")).to_contain_text("None of this edge's frames has an answer yet")


@pytest.mark.parametrize("role", ["edge", "cloud"])
def test_until_the_first_frame_there_are_no_empty_charts_and_no_packets(role, serve, visit):
    world = World(role, [Camera("kitchen", 1, role=role)])
    live = serve(None)
    live.feed(lambda: [world.status()])
    page = visit(live.url).page
    expect(page.locator(".verdict")).to_contain_text("an answer yet")
    for part in (".charts", ".packets", ".frames"):
        expect(page.locator(part)).to_be_hidden()
    live.feed(lambda: [one for one in world() if not isinstance(one, Picture)])
    for part in (".charts", ".packets", ".frames"):
        expect(page.locator(part)).to_be_visible()
    expect(page.locator(".ranks")).to_contain_text("Only the edge knows" if role == "cloud" else "is not known")


def test_while_the_camera_sends_no_frames_the_edges_page_says_why(serve, visit):
    world = World("edge", [Camera("kitchen", 1, role="edge")])
    why = "camera /dev/video7: there is no /dev/video7"
    without = world.cameras[0].edge(time.time(), said=why)
    world.cameras[0].edge = lambda now: without
    live = serve(None)
    live.feed(lambda: [world.status()])
    visitor = visit(live.url)
    expect(visitor.page.locator(".verdict")).to_have_text(f"No frames now: {why}.")
    expect(visitor.page.locator(".edge .state")).to_contain_text(f": {why}")
    assert visitor.violations() == []


def test_fifty_edges_are_a_table_to_search(serve, visit):
    world = World("cloud", [Camera(f"edge {n:02}", n) for n in range(50)])
    live = serve(world, past=1)
    live.feed(lambda: [world.status()])
    visitor = visit(live.url)
    page = visitor.page
    expect(page.get_by_text("50 connected")).to_be_visible()
    expect(page.locator(".edges tbody tr")).to_have_count(12)
    page.get_by_role("searchbox", name="Find an edge").or_(page.get_by_label("Find an edge")).fill("edge 37")
    expect(page.locator(".edges tbody tr")).to_have_count(1)
    page.get_by_role("button", name="edge 37").click()
    expect(page.locator(".edge h2")).to_have_text("edge 37")
    assert visitor.violations() == []


def test_with_a_token_the_link_opens_the_page_and_leaves_the_address_bar(serve, visit, tmp_path_factory):
    kept = tmp_path_factory.mktemp("page") / "token"
    live = serve(World("cloud", [Camera("kitchen", 1)]), token_file=kept)
    visitor = visit(live.url)
    expect(visitor.page.locator(".live")).to_have_text("live")
    assert visitor.page.url == at(live)
    assert visitor.page.evaluate("document.cookie") == ""  # no script sees it
    with pytest.raises(playwright.Error, match="ERR_HTTP_RESPONSE_CODE_FAILURE"):  # 403 and nothing with it
        visit(at(live))


def test_the_page_of_another_site_cannot_listen_in(cloud, visit):
    """A page on another port of this machine is another site, and its script opens a websocket here."""
    visitor = visit("about:blank")
    url = f"ws://{cloud.endpoint}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    script = """url => new Promise(done => {
        const socket = new WebSocket(url);
        socket.onopen = () => done("open");
        socket.onerror = () => done("refused");
    })"""
    assert visitor.page.evaluate(script, url) == "refused"
