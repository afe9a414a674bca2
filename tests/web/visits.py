"""Visits to a live page in a real browser, and the made-up daemons that feed the page."""

from __future__ import annotations

import contextlib
import shutil
import time
from urllib.parse import urlsplit

from tests.web.live import PATIENCE_S, LivePage
from tests.web.world import status

from gradfec_cli.daemons import free_port
from gradfec_web.view import Edge

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESKTOP, PHONE = (1280, 900), (390, 844)


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
        from axe_playwright_python.sync_playwright import Axe
        from playwright.sync_api import Error

        axe = Axe()
        try:
            results = axe.run(self.page)
        except Error:  # it kept the tab so busy that the page believed it gone, and loaded it again
            self.page.locator(".nicegui-echart svg path").first.wait_for(state="attached")
            results = axe.run(self.page)
        return [f"{v['id']}: {node['html'][:200]}" for v in results.response["violations"] for node in v["nodes"]]


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
