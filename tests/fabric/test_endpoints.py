"""A broker's URL, as a user writes it."""

from __future__ import annotations

import pytest

from edgebench.errors import FabricError
from edgebench.fabric.endpoints import BrokerUrl, parse_broker_url


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("mqtt://host", BrokerUrl("host", 1883)),
        ("mqtts://host", BrokerUrl("host", 8883, tls=True)),
        ("mqtt://ann:s%40cret@10.0.0.7:2000/", BrokerUrl("10.0.0.7", 2000, "ann", "s@cret")),
        ("mqtt://ann@host:1", BrokerUrl("host", 1, "ann")),
        ("mqtt://[::1]:1883", BrokerUrl("::1", 1883)),
    ],
)
def test_a_broker_url_is_taken_apart_and_put_together(url: str, parts: BrokerUrl) -> None:
    assert parse_broker_url(url) == parts
    assert parse_broker_url(parts.url) == parts


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("host:1883", "scheme"),
        ("http://host", "scheme"),
        ("mqtt://", "no host"),
        ("mqtt://:1883", "no host"),
        ("mqtt://host:port", "cannot be read"),
        ("mqtt://host:99999", "cannot be read"),
        ("mqtt://host:0", "port 0"),
        ("mqtt://host/topic", "nothing may follow"),
        ("mqtt://:secret@host", "no user"),
        ("mqtt://ann:se/cret@host", r"a '/' in the user or password.*write %2F for /"),
        ("mqtt://ann:12#secret@host", r"a '#' in the user or password.*write %23 for #"),
        ("mqtt://ann:?secret@host", r"a '\?' in the user or password.*write %3F for \?"),
        ("mqtt://ann:[cret@host:1883", r"a '\[' in the user or password.*write %5B for \["),
        ("tcp://ann:secret@host", "scheme"),
        ("mqtt://ann:secret@foo..bar", "no host has such a name"),
        (f"mqtt://{'a' * 70}.de", "no host has such a name"),
    ],
)
def test_a_broken_broker_url_is_refused_without_telling_the_password(url: str, complaint: str) -> None:
    with pytest.raises(FabricError, match=complaint) as refused:
        parse_broker_url(url)
    assert "cret" not in str(refused.value)


def test_a_broker_url_is_shown_without_its_password() -> None:
    where = parse_broker_url("mqtt://ann:secret@host")
    assert "secret" not in repr(where)
    assert where.shown == "mqtt://ann:***@host:1883"
