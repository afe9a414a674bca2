"""The page's process, as a daemon runs it: its start, what it is told, and its end."""

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvloop
from tests.web.live import PATIENCE_S
from tests.web.world import Camera, status

from gradfec_cli.daemons import free_port
from gradfec_common.errors import GradfecError, UsageError
from gradfec_host import extras
from gradfec_host.console import Endpoint
from gradfec_web import child
from gradfec_web.child import Page

LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@contextlib.asynccontextmanager
async def page_at(host="127.0.0.1", port=None, token_file=None):
    said = []
    page = await Page.start(Endpoint(host, port or free_port()), said.append, token_file)
    page.said = said
    try:
        yield page
    finally:
        await page.close()


async def until(condition):
    async def wait():
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), PATIENCE_S)


def get(url, **headers):
    """Return the status and body of what is served, following nothing."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE_S)
    connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers)
    response = connection.getresponse()
    return response.status, response.read(), dict(response.getheaders())


@LOOPS
def test_a_page_is_served_told_and_closed(run):
    async def story():
        async with page_at() as page:
            assert page.url == f"http://127.0.0.1:{page.url.split(':')[2]}"
            page.tell(status("cloud", 1.0, []))
            code, body, _ = await asyncio.to_thread(get, page.url)
            assert code == 200
            assert b"gradfec" in body
            process = page._process
        assert process.returncode == 0
        assert (page.said, page.dropped) == ([], 0)

    run(story())


def test_a_page_ends_with_its_standard_input_and_ignores_ctrl_c():
    async def story():
        async with page_at() as page:
            for number in (signal.SIGINT, signal.SIGTERM):
                page._process.send_signal(number)
            assert (await asyncio.to_thread(get, page.url))[0] == 200
            assert page._process.returncode is None

    asyncio.run(story())


def test_a_line_that_is_no_record_is_passed_over():
    async def story():
        async with page_at() as page:
            page._pipe.write(b'{"kind":"status"\nnonsense\n{"kind":"unknown"}\n[]\n\xff\n')
            page.tell(status("cloud", 1.0, []))
            assert b"gradfec cloud" in await served(page.url, b"gradfec cloud")

    asyncio.run(story())


async def served(url, text):
    """Return the page once it holds a text."""
    while text not in (body := (await asyncio.to_thread(get, url))[1]):
        await asyncio.sleep(0.05)
    return body


def test_a_port_that_is_taken_is_one_plain_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        async def story():
            with pytest.raises(GradfecError) as caught:
                await Page.start(Endpoint("127.0.0.1", port), print)
            assert str(caught.value) == (
                f"cannot serve the live page on 127.0.0.1:{port}: Address already in use; choose another --web"
            )

        asyncio.run(story())


def test_without_the_framework_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"NiceGUI is not installed: pip install 'gradfec\[web\]'"):
        asyncio.run(Page.start(Endpoint("127.0.0.1", 1), print))


def test_a_daemon_with_a_page_does_not_import_the_framework():
    code = "import sys, gradfec_web.child; print([m for m in sys.modules if m.split('.')[0] in ('nicegui', 'fastapi')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@LOOPS
def test_a_page_that_dies_is_reported_once_and_costs_nothing_more(run):
    async def story():
        async with page_at() as page:
            frame, picture = Camera("kitchen", 1).frame(1.0)
            page._process.kill()
            await until(lambda: page.said)
            for _ in range(1000):
                page.tell(frame)
                page.tell(picture)
            await asyncio.sleep(0)
        assert page.said == ["the live page has ended (exit code -9); the daemon goes on without it"]

    run(story())


@LOOPS
def test_telling_a_page_that_is_just_dying_raises_nothing(run):
    async def story():
        async with page_at() as page:
            _, picture = Camera("kitchen", 1).frame(1.0)
            os.kill(page._process.pid, signal.SIGKILL)
            while not page.said:
                page.tell(picture)
                await asyncio.sleep(0)

    run(story())


@LOOPS
def test_a_page_that_does_not_read_is_not_waited_for_and_bounded(run):
    async def story():
        async with page_at() as page:
            _, picture = Camera("kitchen", 1).frame(1.0)
            page._process.send_signal(signal.SIGSTOP)
            for _ in range(1000):
                page.tell(picture)
            assert page._pipe.transport.get_write_buffer_size() < 2 * child.MAX_WAITING_BYTES
            dropped = page.dropped
            assert 0 < dropped < 1000
            page._process.send_signal(signal.SIGCONT)
            await until(lambda: page._pipe.transport.get_write_buffer_size() == 0)
            page.tell(picture)
            assert page.dropped == dropped

    run(story())


def test_a_page_that_hangs_is_ended_by_force(monkeypatch):
    monkeypatch.setattr(child, "CLOSING_S", 0.1)

    async def story():
        async with page_at() as page:
            page._process.send_signal(signal.SIGSTOP)
        assert page._process.returncode == -signal.SIGKILL
        assert page.said == []

    asyncio.run(story())


def test_on_other_addresses_the_page_needs_a_token_which_is_on_no_command_line():
    async def story():
        async with page_at("0.0.0.0") as page:
            at, _, token = page.url.partition("/?token=")
            assert len(token) >= 32
            local = f"http://127.0.0.1:{at.rpartition(':')[2]}/"
            for url in (local, local + "?token=wrong", local + "_nicegui_ws/socket.io/?EIO=4&transport=polling"):
                code, body, headers = await asyncio.to_thread(get, url)
                assert (code, body) == (403, b"")
                assert not {"Set-Cookie", "set-cookie", "server"} & set(headers)
            code, _, headers = await asyncio.to_thread(get, local + f"?token={token}")
            assert (code, headers["location"]) == (303, "/")
            cookie = headers["set-cookie"].partition(";")[0]
            code, body, _ = await asyncio.to_thread(get, local, Cookie=cookie)
            assert code == 200
            assert token.encode() not in body
            assert token.encode() not in Path(f"/proc/{page._process.pid}/cmdline").read_bytes()

    asyncio.run(story())


def test_a_token_that_is_kept_in_a_file_is_the_same_after_a_restart(tmp_path):
    kept = tmp_path / "token"

    async def url():
        async with page_at(token_file=kept) as page:
            return page.url.partition("?")[2]

    first = asyncio.run(url())
    assert first == f"token={kept.read_text().strip()}" == asyncio.run(url())
    assert kept.stat().st_mode & 0o777 == 0o600


def test_the_port_of_a_predecessor_that_was_just_killed_is_taken_over():
    async def story():
        port = free_port()
        async with page_at(port=port) as first:
            first._process.kill()
            async with page_at(port=port) as second:
                assert (await asyncio.to_thread(get, second.url))[0] == 200

    asyncio.run(story())
