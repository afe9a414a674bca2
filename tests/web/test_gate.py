"""Who may see the page: no script of another site, no other name, and nobody without the token."""

import asyncio

import pytest

from gradfec_web.gate import HEADERS, Gate

TOKEN = "a-token-of-the-page-1234"
PORT = 9100


def ask(headers, *, token=None, host="127.0.0.1", kind="http", query=""):
    """Return what the gate sends, and whether it let the request through."""
    sent, passed = [], []

    async def inner(scope, receive, send):
        passed.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"the page"})

    async def send(message):
        sent.append(message)

    scope = {
        "type": kind,
        "path": "/",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    asyncio.run(Gate(inner, host, PORT, token)(scope, None, send))
    return sent, bool(passed)


def is_refused(sent, passed):
    """403, or a websocket that is not opened, and not a byte with it."""
    if sent[0]["type"] == "websocket.close":
        return not passed and len(sent) == 1
    start, body = sent
    return not passed and start["status"] == 403 and start["headers"] == [(b"content-length", b"0")] and len(body) == 1


KINDS = pytest.mark.parametrize("kind", ["http", "websocket"])


@KINDS
@pytest.mark.parametrize("host", ["127.0.0.1:9100", "localhost:9100", "[::1]:9100", "localhost:8080", "LOCALHOST"])
def test_on_loopback_its_own_names_let_in_through_a_tunnels_port_too(kind, host):
    assert ask({"host": host}, kind=kind)[1]
    assert ask({"host": host, "origin": f"http://{host}"}, kind=kind)[1]


@KINDS
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9100", "127.0.0.1.evil.example", "[", "localhost@evil.example", ""]
)
def test_on_loopback_another_name_that_leads_here_is_refused(kind, host):
    assert is_refused(*ask({"host": host}, kind=kind))


def test_a_request_without_a_name_is_refused():
    assert is_refused(*ask({}))


@KINDS
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1234", "http://localhost", "file://", "localhost:9100"]
)
def test_a_script_of_another_site_is_refused_with_the_token_too(kind, origin):
    headers = {"host": "localhost:9100", "origin": origin}
    assert is_refused(*ask(headers, kind=kind))
    assert is_refused(*ask(headers | {"cookie": f"gradfec_page_{PORT}={TOKEN}"}, token=TOKEN, kind=kind))


def test_the_link_with_the_token_becomes_a_cookie_and_leaves_the_address_bar():
    (start, _), passed = ask({"host": "box.example:9100"}, token=TOKEN, query=f"token={TOKEN}")
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert (passed, start["status"], headers["location"]) == (False, 303, "/")
    assert headers["set-cookie"] == f"gradfec_page_{PORT}={TOKEN}; Path=/; HttpOnly; SameSite=Lax"
    assert headers["referrer-policy"] == "no-referrer"


@KINDS
def test_the_cookie_is_valid_under_any_name(kind):
    assert ask({"host": "box.example:9100", "cookie": f"gradfec_page_{PORT}={TOKEN}"}, token=TOKEN, kind=kind)[1]


@KINDS
@pytest.mark.parametrize("cookie", ["", TOKEN[:-1], TOKEN + "x", "é", TOKEN.upper()])
def test_a_wrong_token_is_refused(kind, cookie):
    assert is_refused(*ask({"host": "localhost", "cookie": f"gradfec_page_{PORT}={cookie}"}, token=TOKEN, kind=kind))
    assert is_refused(*ask({"host": "localhost"}, token=TOKEN, kind=kind, query=f"token={cookie}"))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_program_sends_the_token_as_a_bearer_token(scheme):
    assert ask({"host": "box.example:9100", "authorization": f"{scheme} {TOKEN}"}, token=TOKEN)[1]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer é"])
def test_a_wrong_bearer_token_is_refused(header):
    assert is_refused(*ask({"host": "localhost", "authorization": header}, token=TOKEN))


def test_the_cookie_of_the_page_on_another_port_is_none_here():
    assert is_refused(*ask({"host": "localhost", "cookie": f"gradfec_page_9101={TOKEN}"}, token=TOKEN))


def test_a_websocket_cannot_be_opened_by_the_link():
    assert is_refused(*ask({"host": "localhost"}, token=TOKEN, kind="websocket", query=f"token={TOKEN}"))


def test_pages_may_fetch_nothing_from_other_sites():
    sent, _ = ask({"host": "localhost"})
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert headers == {name.lower(): value for name, value in HEADERS.items()}


def test_a_page_on_an_address_of_its_own_answers_to_that():
    assert ask({"host": "127.0.0.2:9100"}, host="127.0.0.2")[1]
    assert is_refused(*ask({"host": "127.0.0.3:9100"}, host="127.0.0.2"))
