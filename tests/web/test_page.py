"""The live page in a real browser, fed by a made-up daemon."""

import contextlib
import re
import shutil
import time
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import pytest
from axe_playwright_python import sync_playwright as axe
from playwright import sync_api as playwright
from tests.web.live import PATIENCE_S, LivePage, free_port
from tests.web.world import DATAGRAMS, Camera, picture_of_noise, status

from gradfec_common.cells import Cell
from gradfec_web.view import Edge

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
expect = playwright.expect
expect.set_options(timeout=1000 * PATIENCE_S)
DESKTOP, PHONE = (1280, 900), (390, 844)
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>{{1+1}}\'"`'


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """A browser tab that notes what went wrong in it, and where it turned to."""

    def __init__(self, browser, size=DESKTOP, scheme="light", **options):
        viewport = {"width": size[0], "height": size[1]}
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE_S)
        self.complaints, self.hosts = [], set()
        self.page.on("console", lambda m: m.type in {"error", "warning"} and self.complaints.append(m.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("websocket", lambda socket: self._note(socket.url))

    def _note(self, url):
        if urlsplit(url).scheme != "data":
            self.hosts.add(urlsplit(url).netloc)

    def overflow(self):
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    def violations(self):
        try:
            results = axe.Axe().run(self.page)
        except playwright.Error:  # it kept the tab so busy that the page believed it gone, and loaded it again
            expect(self.page.locator(".nicegui-echart svg path").first).to_be_attached()
            results = axe.Axe().run(self.page)
        return [f"{v['id']}: {node['html'][:200]}" for v in results.response["violations"] for node in v["nodes"]]


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


def at(live):
    return f"http://{live.endpoint}/"


class World:
    """Cameras whose frames come now, ten a second, with a picture each second."""

    def __init__(self, role, cameras, **options):
        self.role, self.cameras, self.options = role, cameras, options
        self.gone: list[Edge] = []
        self.began, self.turn = time.time(), 0

    def past(self, seconds):
        """A past, at once."""
        frames = [camera.frame(self.began - ago) for ago in range(seconds, 0, -1) for camera in self.cameras]
        return [self.status(), *(frame for frame, _ in frames)]

    def status(self):
        edges = [camera.edge(self.began) for camera in self.cameras]
        return status(self.role, time.time(), [*edges, *self.gone], **self.options)

    def __call__(self):
        records = [self.status()] if self.turn % 10 == 0 else []
        for camera in self.cameras:
            frame, picture = camera.frame(time.time())
            records += [frame, picture] if self.turn % 10 == 0 else [frame]
        self.turn += 1
        return records


@contextlib.contextmanager
def served(world, past=0, token_file=None):
    live = LivePage(free_port(), token_file)
    try:
        live.url = live.start()
        if past:
            live.tell(world.past(past))
        if world:
            live.feed(world)
        yield live
    finally:
        live.close()


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:
        yield lambda *given, **named: stack.enter_context(served(*given, **named))


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
    expect(page.get_by_role("heading", name="Edges: 2 connected")).to_be_visible()
    expect(page.locator(".edge h2")).to_have_text("kitchen")
    expect(page.locator(".first")).to_have_text(re.compile("Egyptian cat|espresso|space shuttle"))
    for name in ("Frames a second", "Latency", "Loss", "Burst", "Recovered", "Missing"):
        expect(tile(page, name)).to_have_text(re.compile(r"\d"))
    expect(page.get_by_alt_text(re.compile("256 channels of 8 packets each: .* recovered"))).to_be_visible()
    expect(page.get_by_alt_text(re.compile("What the camera saw in frame"))).to_be_visible()
    expect(page.locator(".ranks")).to_contain_text("Only the edge knows")
    assert page.get_by_role("img", name=re.compile("over .*: .* now, .* to")).count() == 5
    assert page.locator(".nicegui-echart svg path").count() > 20
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
    expect(page.locator(".photograph")).to_be_hidden()
    page.reload()
    expect(page.locator(".edge h2")).to_have_text("back yard")


def test_an_edge_that_is_gone_is_shown_with_the_reason(tab):
    page = tab.page
    expect(page.locator(".edges tr", has_text="garage")).to_contain_text("it was silent for too long")
    page.get_by_role("button", name="garage").click()
    expect(page.locator(".edge .state")).to_contain_text("it was silent for too long")
    expect(page.locator(".edge .empty")).to_be_visible()


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


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("role", ["cloud", "edge"])
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
    expect(page.get_by_alt_text(re.compile(r"band \d of 8 from the top matters most"))).to_be_visible()
    expect(page.get_by_alt_text("The importance of the same packets in the same places")).to_be_visible()
    boxes = [shown.bounding_box() for shown in page.locator(".map").all()]
    assert [boxes[0][side] for side in ("y", "width", "height")] == [
        boxes[1][side] for side in ("y", "width", "height")
    ]
    assert page.locator(".edges").count() == 0
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
    expect(page.locator("#popup")).to_be_visible()
    live.start()
    live.feed(World("cloud", [Camera("back yard", 7), Camera("kitchen", 8)]))
    expect(page.locator("#popup")).to_be_hidden()
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


@pytest.mark.parametrize(("role", "name"), [("edge", "Sent"), ("cloud", "Received")])
def test_the_bytes_of_a_frame_and_their_rate_are_a_tile(role, name, serve, visit):
    live = serve(World(role, [Camera("kitchen", 1, role=role)]), past=5)
    page = visit(live.url).page
    tile = page.locator(".tile").filter(has=page.get_by_text(name, exact=True))
    expect(tile.locator(".value")).to_have_text("271\N{NO-BREAK SPACE}kB a frame")
    expect(tile.locator(".meaning")).to_have_text(re.compile("kbit/s$"))


def test_why_the_newest_frame_is_as_it_is_is_said_until_the_link_is_lost_and_never_without_a_reason(serve, visit):
    camera = Camera("kitchen", 1, role="edge")
    live = serve(World("edge", [camera]), past=5)
    visitor = visit(live.url)
    why = visitor.page.locator(".why")
    expect(visitor.page.locator(".tiles")).to_be_visible()
    expect(why).to_be_hidden()
    plain = camera.frame
    camera.frame = lambda at: tuple(replace(one, **{"why": EVIL} if hasattr(one, "why") else {}) for one in plain(at))
    expect(why).to_have_text(f"Why the newest frame is as it is: {EVIL}")
    assert visitor.violations() == []
    away = replace(camera.edge(time.time()), connected=False, since=time.time())
    camera.edge = lambda now: away
    expect(why).to_be_hidden()


def test_without_an_edge_or_a_frame_it_says_what_to_do_and_without_a_key_it_warns(serve, visit):
    live = serve(None)
    page = visit(live.url).page
    expect(page.locator(".body")).to_have_text("Waiting for the daemon.")
    world = World("cloud", [], insecure=True)
    live.feed(world)
    expect(page.locator("code")).to_have_text("gradfec-edge --camera /dev/video0 --cloud 127.0.0.1:9000 --insecure")
    expect(page.get_by_role("alert")).to_contain_text("anybody may join")
    world.gone = [Edge("kitchen", 1, "", True, time.time())]
    expect(page.locator(".edge .empty")).to_contain_text("none of its frames has an answer yet")
    live.feed(list)  # the daemon falls silent
    expect(page.locator(".live")).to_have_text(re.compile("nothing heard for"))


def test_fifty_edges_are_a_table_to_search(serve, visit):
    world = World("cloud", [Camera(f"edge {n:02}", n) for n in range(50)])
    live = serve(world, past=1)
    live.feed(lambda: [world.status()])
    visitor = visit(live.url)
    page = visitor.page
    expect(page.get_by_role("heading", name="Edges: 50 connected")).to_be_visible()
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
