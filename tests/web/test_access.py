"""Where the page is served, and the token that it needs on other addresses than loopback."""

import pytest

from gradfec_cli.daemons import free_port
from gradfec_common.errors import GradfecError
from gradfec_host.console import Endpoint
from gradfec_web.access import choose_token, open_listener, page_url


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1"])
def test_on_loopback_no_token_is_needed(host):
    assert choose_token(Endpoint(host, 9100), None) is None


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.1", "box.example"])
def test_on_other_addresses_each_start_has_its_own_token(host):
    tokens = {choose_token(Endpoint(host, 9100), None) for _ in range(3)}
    assert len(tokens) == 3
    assert min(map(len, tokens)) >= 32


def test_a_token_file_is_made_once_for_its_owner_alone_and_counts_on_loopback_too(tmp_path):
    kept = tmp_path / "token"
    tokens = {choose_token(Endpoint(host, 9100), kept) for host in ("127.0.0.1", "0.0.0.0")}
    assert tokens == {kept.read_text().strip()}
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "does not hold a token"),
        ("short", "does not hold a token"),
        ("x" * 300, "does not hold a token"),
        ("a; Path=/" * 4, "does not hold a token"),
        ("é" * 30, "ASCII"),
    ],
)
def test_a_file_that_holds_no_token_is_one_plain_line(tmp_path, content, says):
    kept = tmp_path / "token"
    kept.write_text(content)
    with pytest.raises(GradfecError, match=says) as caught:
        choose_token(Endpoint("127.0.0.1", 9100), kept)
    assert "\n" not in str(caught.value)


def test_a_token_file_that_cannot_be_made_is_one_plain_line(tmp_path):
    with pytest.raises(GradfecError, match=r"cannot use .* for the page's token: No such file or directory; choose"):
        choose_token(Endpoint("127.0.0.1", 9100), tmp_path / "none" / "token")


@pytest.mark.parametrize("host", ["192.0.2.77", "no-such-host.invalid", "\N{SNOWMAN}" * 70])
def test_an_address_that_is_not_this_machines_is_one_plain_line(host, monkeypatch):
    monkeypatch.setattr("gradfec_web.access.BIND_S", 0)
    with pytest.raises(GradfecError, match=r"cannot serve the live page on .*; choose another --web"):
        open_listener(Endpoint(host, free_port()))


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost"])
def test_a_port_is_taken_on_the_address_that_is_named(host):
    port = free_port()
    with open_listener(Endpoint(host, port)) as listener:
        assert listener.getsockname()[1] == port


def test_the_url_has_the_token_and_a_name_that_leads_here(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert page_url(Endpoint("127.0.0.1", 9100), None) == "http://127.0.0.1:9100/"
    assert page_url(Endpoint("::1", 9100), None) == "http://[::1]:9100/"
    assert page_url(Endpoint("", 9100), "secret") == "http://box:9100/?token=secret"
