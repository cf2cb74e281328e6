"""Where a view is served, and who is let in."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from acquisition.live_view import address as address_module
from acquisition.live_view.address import ViewAddress, ViewAddressError, listen
from acquisition.live_view.gate import Gate


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_where_the_port_is_taken_the_next_free_one_is_used(taken: int) -> None:
    with listen(ViewAddress(port=taken)) as listening:
        port = listening.getsockname()[1]
        assert taken < port < taken + 20


def test_two_views_never_share_a_port() -> None:
    with listen(ViewAddress(port=0)) as first:
        port = first.getsockname()[1]
        with listen(ViewAddress(port=port)) as second:
            assert second.getsockname()[1] != port


def test_where_all_ports_are_taken_that_is_said(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_module, "_MOST_PORTS", 1)
    with pytest.raises(ViewAddressError, match=f"the ports {taken} to {taken} of 127.0.0.1 are all taken"):
        listen(ViewAddress(port=taken))


@pytest.mark.parametrize("host", ["203.0.113.9", "no such host.invalid", "::zz", "\u00e4" * 80])
def test_an_address_that_is_not_of_this_computer_is_refused(host: str) -> None:
    with pytest.raises(ViewAddressError, match="the live view cannot be served on"):
        listen(ViewAddress(host))


def test_ports_that_no_computer_has_are_refused() -> None:
    with pytest.raises(ViewAddressError, match="found port 70000"):
        listen(ViewAddress(port=70000))


def test_on_the_loopback_address_no_token_is_needed() -> None:
    with listen(ViewAddress(port=0)) as listening:
        gate = Gate.of(listening, ViewAddress(port=0))
        port = listening.getsockname()[1]
    assert gate.link == f"http://127.0.0.1:{port}/"
    for host in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        assert gate.refusal(f"{host}:{port}", None, None) is None
        assert gate.refusal(f"{host}:{port}", f"http://{host}:{port}", None) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1:x",
        "user@127.0.0.1:{port}",
        "127.0.0.1:{port}/x",
        "127.0.0.1.evil.example:{port}",
        "[::1",
    ],
)
def test_a_name_that_is_not_the_servers_is_refused(host: str) -> None:
    gate = Gate(frozenset({"127.0.0.1", "localhost", "::1"}), "127.0.0.1", 8642, None)
    refusal = gate.refusal(host.format(port=8642), None, None)
    assert refusal is not None
    assert "is not served as" in refusal


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://127.0.0.1:8642", "http://127.0.0.1:8643", "http://localhost:8642"],
)
def test_pages_of_other_servers_are_refused(origin: str) -> None:
    gate = Gate(frozenset({"127.0.0.1", "localhost"}), "127.0.0.1", 8642, None)
    refusal = gate.refusal("127.0.0.1:8642", origin, None)
    assert refusal is not None
    assert "page of another server" in refusal


def test_beyond_loopback_the_link_has_a_token_and_nothing_else_is_let_in() -> None:
    with listen(ViewAddress("0.0.0.0", 0)) as listening:
        gate = Gate.of(listening, ViewAddress("0.0.0.0", 0))
        other = Gate.of(listening, ViewAddress("0.0.0.0", 0))
    assert gate.token is not None
    assert len(gate.token) >= 32
    assert gate.token != other.token
    assert gate.link.endswith(f":{gate.port}/?token={gate.token}")
    host = f"microscope.lab:{gate.port}"
    assert gate.refusal(host, f"http://{host}", gate.token) is None
    for token in (None, "", "wrong", other.token, gate.token[:-1], gate.token + "a", "ä" * 32):
        refusal = gate.refusal(host, None, token)
        assert refusal is not None
        assert "token" in refusal
