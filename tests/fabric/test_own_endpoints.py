"""Where things are, as one part of a run tells another."""

from __future__ import annotations

import pytest

from edgebench.errors import FabricError
from edgebench.fabric.endpoints import BrokerUrl, HttpUrl, parse_broker_url, parse_http_url, parse_own_broker_url

NAME = "pi-1.edgebench.internal"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://127.0.0.1:2000", HttpUrl("127.0.0.1", 2000)),
        ("https://example.org", HttpUrl("example.org", 443, tls=True)),
        (f"https://10.0.0.2:47000?name={NAME}", HttpUrl("10.0.0.2", 47000, True, NAME)),
        ("http://[::1]:2000", HttpUrl("::1", 2000)),
    ],
)
def test_the_base_of_a_control_plane_is_told_in_one_line_with_the_name_that_its_certificate_holds(
    url: str, parts: HttpUrl
) -> None:
    assert parse_http_url(url) == parts
    assert parse_http_url(parts.url) == parts
    assert "name=" not in parts.shown


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host/path", "http://host:99999", "host:80"])
def test_what_is_no_base_of_http_is_refused(url: str) -> None:
    with pytest.raises(FabricError, match=r"write http://host:port"):
        parse_http_url(url)


def test_a_part_is_told_the_name_in_a_brokers_certificate_and_a_user_cannot_give_one() -> None:
    own = BrokerUrl("10.0.0.2", 47000, "bed-0", "p?name=x/y", tls=True, server_name=NAME)
    assert parse_own_broker_url(own.url) == own
    assert NAME not in own.shown
    with pytest.raises(FabricError, match="nothing may follow the port"):
        parse_broker_url(own.url)
