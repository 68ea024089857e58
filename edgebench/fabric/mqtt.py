"""MQTT connections driven by a reactor; the one importer of paho, which holds the session. What is published goes past
it, see `edgebench.fabric.mqtt_socket`."""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from edgebench.clock import now_s
from edgebench.fabric.descriptors import READABLE, WRITABLE, wait_until_ready
from edgebench.fabric.dialling import Dial
from edgebench.fabric.endpoints import BrokerUrl
from edgebench.fabric.in_flight import Delivery, InFlight
from edgebench.fabric.mqtt_socket import MqttSocket, publication
from edgebench.fabric.reactor import READ, WRITE, Reactor, Timer
from edgebench.fabric.seals import sealed, unsealed
from edgebench.topology.link_model import KEEPALIVE_S
from edgebench.topology.wording import listed

_log = logging.getLogger(__name__)
_CONNECT_S = 5.0
_GOODBYE_S = 1.0
_GOODBYE_EACH_S = 0.005
_UNREAD_BYTES = 1 << 16
_HOUSEKEEPING_S = 5.0
_RESUBSCRIBE_S = 1.0
_STEADY_S = 5.0
"""A connection that has stood for so long was none that a broker accepts only to break it."""
_RECONNECT_S = (0.1, 0.2, 0.5, 1.0, 2.0)
ANNOUNCED_AGAIN_S = 1.0
"""nats-server passes a retained message that comes just as a subscription is taken in neither at once nor as a retained
one: 4 of 50 were lost where both came within 2 ms. What is announced twice reaches everybody."""
_ID_END_BYTES = 8

REFUSED = "the broker refuses the connection"
"""How the reason of a connection that was refused begins."""

Received = Callable[[str, bytes], None]


class _Client(paho.Client):
    """paho's client on a socket that is open already: paho's own way to open one blocks, for as long as it takes."""

    opened: MqttSocket | None = None

    def _create_socket(self) -> MqttSocket:
        sock, self.opened = self.opened, None
        assert sock is not None
        return sock


def topic_matches(pattern: str, topic: str) -> bool:
    """Whether a subscription to `pattern`, which may hold `+` and `#`, brings what is published on a topic."""
    return bool(paho.topic_matches_sub(pattern, topic))


def _end_of(client_id: str, session_key: str | None) -> str:
    """What nobody else can guess."""
    if session_key is None:
        return secrets.token_hex(_ID_END_BYTES)
    return hmac.digest(session_key.encode(), client_id.encode(), "sha256")[:_ID_END_BYTES].hex()


def close_all(connections: Collection[Connection]) -> None:
    """`Connection.close`, side by side."""
    until_s = now_s() + _GOODBYE_S + _GOODBYE_EACH_S * len(connections)
    for connection in connections:
        connection._say_goodbye(until_s)
    for connection in connections:
        connection._await_end(until_s)


class Connection:
    """One MQTT 3.1.1 session that reconnects by itself.

    All callbacks run in the reactor's thread. `publish` may be called from any thread; everything else only from the
    reactor's. QoS 1 messages published while the broker is away are kept, at most `in_flight.MOST`, and sent when it is
    back.
    """

    def __init__(
        self,
        reactor: Reactor,
        broker: BrokerUrl,
        client_id: str,
        *,
        on_message: Received,
        on_up: Callable[[], None] | None = None,
        on_room: Callable[[], None] | None = None,
        on_trouble: Callable[[str], None] | None = None,
        will: tuple[str, bytes] | None = None,
        clean_session: bool = False,
        session_key: str | None = None,
        seals: bool = False,
        on_damaged: Callable[[str], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`will`: a retained message that the broker publishes should this client vanish. `on_up` is called at each
        (re)connection, and after each `subscribe`, once all subscriptions stand; `on_room` whenever it is full no
        more; `on_trouble`, instead of a line in the log, with the reason when a connection fails, is refused or breaks,
        or a subscription is refused. clean_session: the broker forgets what it holds for this client when that is gone.
        session_key: a secret of the node's that outlives this process, so that it finds its session when it is started
        again. seals: see `edgebench.fabric.seals`, as all who speak to each other; `on_damaged` is told the topic of
        what was changed on the way, which is then not heard. tls: whom to trust, where the broker is asked by TLS
        (None: as `Dial` has it)."""
        self._reactor = reactor
        self._broker = broker
        self._tls = tls
        self._on_message = on_message
        self._on_up = on_up
        self._on_room = on_room
        self._on_trouble = on_trouble
        self._seals = seals
        self._on_damaged = on_damaged
        self._in_flight = InFlight()
        self._sock: MqttSocket | None = None
        self._accepted = False
        """By the broker, which has yet to be sent what waits."""
        self._up: MqttSocket | None = None
        """The same, once the broker has accepted the connection, and been asked for what is subscribed to."""
        self._watched = READ
        self._announced: dict[str, bytes] = {}
        self._was_up = False
        self._subscriptions: list[tuple[str, int]] = []
        self._awaited_acks: dict[int, list[tuple[str, int]]] = {}
        self._flush_asked = False
        self._closing = False
        self._attempt = 0
        self._up_since_s: float | None = None
        self._housekeeping: Timer | None = None
        self._dial: Dial | None = None
        self._is_dialling = False
        self._says_goodbye = False
        self._left: socket.socket | None = None
        if broker.username is not None:
            # Whoever knows a client's id can take its place, and its session, with a login of its own.
            client_id = f"{client_id}-{_end_of(client_id, session_key)}"
        client = _Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean_session)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_message = self._received_by_paho
        client.on_socket_open = self._socket_opened
        client.on_socket_close = self._socket_closed
        client.on_socket_register_write = self._write_wanted
        if will is not None:
            client.will_set(will[0], sealed(*will) if seals else will[1], qos=1, retain=True)
        client.connect_async(broker.host, broker.port, KEEPALIVE_S)
        self._client = client

    def subscribe(self, topics: list[str], qos: int) -> None:
        """Subscribe now, or at the connection if there is none yet; kept over reconnections."""
        new = [(topic, qos) for topic in topics]
        self._subscriptions += new
        if self._client.is_connected():
            self._send_subscriptions(new)

    def start(self) -> None:
        """Connect, and go on trying until `close`."""
        self._is_dialling = True
        self._connect()
        self._housekeeping = self._reactor.call_later(_HOUSEKEEPING_S, self._keep_house)

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False, waits: bool = False) -> bool:
        """Hand a message over. False where it is not taken: at QoS 0 there is no connection, at QoS 1 too much is under
        way. waits: others follow, then `flush`."""
        return self._publish(topic, payload, qos, retain=retain, waits=waits)

    def flush(self) -> None:
        """Send what waits; from any thread."""
        # One flush serves all that is published until it runs.
        if not self._flush_asked:
            self._flush_asked = True
            self._reactor.call_soon_threadsafe(self._flush)

    def announce(self, topic: str, payload: bytes) -> None:
        """Have a message retained for whoever subscribes, now or later. It is published again a second later, unless
        another one was announced there by then, and whenever the connection stands anew, since its broker may have
        forgotten what it held. From any thread."""
        self._reactor.call_soon_threadsafe(partial(self._announce, topic, payload))

    def publish_followed(self, topic: str, payload: bytes) -> Delivery | None:
        """The same at QoS 1, from the reactor's thread: what comes of it, or None where it is not taken."""
        delivery = Delivery()
        return delivery if self._publish(topic, payload, 1, delivery=delivery) else None

    def _announce(self, topic: str, payload: bytes) -> None:
        self._announced[topic] = payload
        self._announce_once_more(topic, payload)
        self._reactor.call_later(ANNOUNCED_AGAIN_S, partial(self._announce_once_more, topic, payload))

    def _announce_once_more(self, topic: str, payload: bytes) -> None:
        if self._announced[topic] is payload:
            self.publish(topic, payload, qos=1, retain=True)

    def _publish(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        *,
        retain: bool = False,
        waits: bool = False,
        delivery: Delivery | None = None,
    ) -> bool:
        if self._seals:
            payload = sealed(topic, payload)
        if qos:
            taken = self._in_flight.publish(topic.encode(), payload, retain=retain, delivery=delivery)
        else:
            up = self._up
            taken = up is not None
            if up is not None:
                up.put(publication(topic.encode(), payload, retain=retain))
        if not waits:
            self.flush()
        return taken

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._client.is_connected()

    @property
    def backed_up(self) -> bool:
        """Whether messages wait for the connection to take more."""
        sock = self._sock
        return self._client.want_write() or (sock is not None and sock.unsent)

    @property
    def is_full(self) -> bool:
        """Whether the system takes no more just now of what is to be sent: all that is published waits in memory."""
        return self._watched != READ

    def close(self) -> None:
        """Say goodbye (so no will is published) and disconnect."""
        close_all([self])

    def _say_goodbye(self, until_s: float) -> None:
        self._end()
        self._says_goodbye = True
        self._client.disconnect()
        while self._client.want_write() and (sock := self._client.socket()) is not None and now_s() < until_s:
            wait_until_ready(sock, WRITABLE, until_s - now_s())
            if self._client.loop_write() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break

    def _await_end(self, until_s: float) -> None:
        """Wait for the broker to close its end. A socket that is closed with something unread resets the connection,
        and what the broker has yet to read of us is lost: the last messages, and the goodbye."""
        self._says_goodbye = False
        if self._left is None:
            return
        with self._left as left, contextlib.suppress(OSError):
            left.setblocking(False)
            left.shutdown(socket.SHUT_WR)
            while (wait_s := until_s - now_s()) > 0 and wait_until_ready(left, READABLE, wait_s):
                if not left.recv(_UNREAD_BYTES):
                    break

    def depart(self) -> None:
        """Say goodbye, so that no will is published, and do not wait for the end."""
        self._end()
        self._client.disconnect()
        self.flush()

    def abandon(self) -> None:
        """Break off without a word, at once: the will is published, and nothing more is heard here."""
        self._end()
        sock = self._sock
        if sock is not None:
            self._is_down()
            self._reactor.unwatch(sock)
            sock.close()

    def _end(self) -> None:
        self._closing = True
        if self._sock is not None:
            self._sock.holds_back = False
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        if self._dial is not None:
            self._dial.call_off()

    def _connect(self) -> None:
        if not self._closing:
            self._dial = Dial(
                self._reactor,
                self._broker,
                timeout_s=_CONNECT_S,
                on_open=self._opened,
                on_failed=self._retry,
                tls=self._tls,
            )

    def _opened(self, sock: socket.socket) -> None:
        self._is_dialling = False
        opened = self._client.opened = MqttSocket(
            sock,
            on_message=self._unseal if self._seals else self._on_message,
            on_acknowledged=self._in_flight.acknowledged,
            on_others=self._client.loop_read,
        )
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._client.reconnect()
        except OSError as error:  # it has broken meanwhile
            opened.close()
            self._retry(str(error))

    def _retry(self, why: str) -> None:
        self._is_dialling = True
        delay_s = _RECONNECT_S[min(self._attempt, len(_RECONNECT_S) - 1)]
        self._attempt += 1
        self._reactor.call_later(delay_s, self._connect)
        self._tell(logging.WARNING, why, f"; trying again in {delay_s:.1f} s")

    def _tell(self, level: int, why: str, mend: str = "") -> None:
        if self._on_trouble is not None:
            self._on_trouble(why)
        else:
            _log.log(level, "broker %s: %s%s", self._broker.at, why, mend)

    def _connected(self, _client: object, _userdata: object, _flags: object, code: ReasonCode, _p: object) -> None:
        """Nothing is written here: paho calls with a lock held that it takes again where the goodbye is sent, or a
        write fails."""
        if self._closing:
            return
        if code.is_failure:
            self._tell(logging.ERROR, f"{REFUSED}: {code}")
            return
        self._up_since_s = now_s()
        self._awaited_acks.clear()
        if self._was_up:
            for topic, payload in self._announced.items():
                self._announce_once_more(topic, payload)
        self._was_up = True
        if self._subscriptions:
            self._send_subscriptions(self._subscriptions)
        self._accepted = True
        self.flush()

    def _go_up(self, sock: MqttSocket) -> None:
        """The broker has accepted the connection, and the subscriptions go before what may be answered."""
        self._accepted = False
        self._up = sock
        self._in_flight.is_up(sock)
        if not self._subscriptions and self._on_up is not None:
            self._on_up()

    def _send_subscriptions(self, subscriptions: list[tuple[str, int]]) -> None:
        _, mid = self._client.subscribe(subscriptions)
        if mid is not None:
            self._awaited_acks[mid] = subscriptions

    def _subscribed(self, _client: object, _userdata: object, mid: int, codes: list[ReasonCode], _p: object) -> None:
        asked = self._awaited_acks.pop(mid, [])
        refused = [subscription for subscription, code in zip(asked, codes, strict=False) if code.is_failure]
        if refused:
            why = f"the broker refuses the subscription of {listed([topic for topic, _ in refused])}"
            self._tell(logging.ERROR, why, "; asking again")
            self._awaited_acks[-mid] = refused
            self._reactor.call_later(_RESUBSCRIBE_S, partial(self._ask_again, -mid))
        if not self._awaited_acks and self._on_up is not None:
            self._on_up()

    def _ask_again(self, key: int) -> None:
        refused = self._awaited_acks.pop(key, None)
        if refused is not None and self._client.is_connected():
            self._send_subscriptions(refused)

    def _disconnected(self, _client: object, _userdata: object, _flags: object, code: ReasonCode, _p: object) -> None:
        if not self._closing and not self._is_dialling:  # paho tells twice of a broker that has fallen silent
            if self._up_since_s is not None and now_s() - self._up_since_s > _STEADY_S:
                self._attempt = 1
            self._up_since_s = None
            self._retry(str(code))

    def _unseal(self, topic: str, payload: bytes) -> None:
        unharmed = unsealed(topic, payload)
        if unharmed is not None:
            self._on_message(topic, unharmed)
            return
        _log.warning("broker %s: a message on %s is not what was published: dropped", self._broker.at, topic)
        if self._on_damaged is not None:
            self._on_damaged(topic)

    def _received_by_paho(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        """At QoS 2, which nobody here has asked for."""
        (self._unseal if self._seals else self._on_message)(message.topic, bytes(message.payload))

    def _socket_opened(self, _client: object, _userdata: object, sock: Any) -> None:
        self._sock, self._watched = sock, READ
        self._reactor.watch(sock, READ, self._ready)

    def _socket_closed(self, _client: object, _userdata: object, sock: Any) -> None:
        self._is_down()
        self._reactor.unwatch(sock)
        if self._says_goodbye:
            self._left = socket.socket(fileno=os.dup(sock.fileno()))  # paho closes its own at once

    def _is_down(self) -> None:
        self._sock = self._up = None
        self._accepted = False
        self._in_flight.is_down()

    def _write_wanted(self, _client: object, _userdata: object, _sock: object) -> None:
        self.flush()

    def _flush(self) -> None:
        self._flush_asked = False
        sock = self._sock
        if sock is None:
            return
        self._client.loop_write()
        if self._accepted and self._sock is sock:
            self._go_up(sock)
        if self._sock is not sock:
            return  # that was the goodbye
        try:
            wanted = READ if sock.flush() and not self._client.want_write() else READ | WRITE
        except OSError:
            self._client.loop_read()  # it meets the failure
            return
        if wanted != self._watched:
            self._watched = wanted
            self._reactor.watch(sock, wanted, self._ready)
            if wanted == READ and self._on_room is not None:
                self._on_room()

    def _ready(self, events: int) -> None:
        sock = self._sock
        assert sock is not None
        if events & READ:
            while sock.read(self._reactor.room):
                pass  # what is decrypted already wakes no selector
            if self._sock is not sock:
                return
            if sock.unsent:
                self.flush()
        if events & WRITE:
            self._flush()

    def _keep_house(self) -> None:
        if self._up is None or not self._up.has_moved_both_ways():
            self._client.loop_misc()  # it asks whether the broker is there, unless it answers to it
        self._housekeeping = self._reactor.call_later(_HOUSEKEEPING_S, self._keep_house)
