"""Transfers over datagrams that get lost: in chunks, each with a digest, and resumed from where they were.

A datagram is an MQTT message at QoS 0, the cheapest there is. The datagrams of one peer keep their order; a connection
that breaks loses those that are under way. So losses are rare, come in a row, and are never a sign of a full network:
the sender goes back only when it knows of a loss, never because an answer takes long.

- The sender keeps at most a window of chunks under way, and begins with them at once. The receiver acknowledges every
  other chunk, and names the next one that it wants.
- A chunk that comes before its turn shows the receiver that others are lost. It says so at once: of those before
  `before`, the ones from `next` on have not come and will not come. The sender goes back to `next`, which begins a new
  lap; what is said of earlier laps does not make it go back again.
- When the sender hears nothing for a while, or one of the two is connected anew, it makes an offer: so many chunks
  have been sent. The answer says which of them are lost. An offer costs some 40 bytes, so that asking in vain, on a
  link where chunks take seconds, does no harm.
- Payloads to one peer go one after the other; those to several peers go side by side.
- A transfer ends when it is whole, or is called off by either side. A reply has the identifier of its request, so that
  calling off concerns both.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edgebench.fabric.reactor import Timer
from edgebench.federated.datagrams import (
    LONGEST_REASON,
    Ack,
    Cancel,
    Chunk,
    Datagram,
    MalformedError,
    Offer,
    decode,
    encode,
)
from edgebench.federated.payload import Assembly, Payload, Received, Source, count_chunks

# What matters is how much is under way. 256 KiB fill a link of 50 Mbit/s with a round trip of 20 ms (measured: 92 %; of
# 40 ms: 62 %), and hold up the samples that share it by 42 ms. Half as much fills 62 % and 38 %; twice as much 96 % and
# 92 %, but the samples wait twice as long, on a slow link for a second or more. In chunks of 32 KiB the same takes 1.2
# times the processor time, in larger ones hardly less. Brokers that limit the size of messages allow 128 KB.
# A little less than 64 KiB: a larger message costs the embedded broker half as much processor time again.
CHUNK_BYTES = 60 * 1024
WINDOW = 4
LARGEST_BYTES = 1 << 30

_MOST_HALF_DONE = 4
"""Payloads from one peer that may be incomplete at the same time."""
_FINISHED_KEPT = 16
"""How many finished transfers of a peer are remembered, to say so again."""
_MOST_WRONG = 8
"""Digests of one transfer that may be wrong; a source that changes while it is sent would be sent for ever."""
_BURST_BYTES = 256 * 1024
"""How much is handed to the connection in one turn of the loop: it must neither hold up the rest nor pile up."""
_FIRST_HOLD_S, _LONGEST_HOLD_S = 0.001, 0.032
_TICK_S = 0.5
_FIRST_PATIENCE, _LONGEST_PATIENCE = 2, 8
"""Ticks without a sign of life before a sender asks; the time doubles with each question."""


class Timers(Protocol):
    """What an exchange needs of a reactor."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call after a delay in s."""


class Transfer:
    """A payload on its way out. sent_bytes: payload bytes that were sent, those that were sent again included.

    When `on_done` is called, `error` is None if the peer has it all.
    """

    def __init__(
        self, peer: str, transfer_id: int, source: Source, on_done: Callable[[Transfer], None], *, is_reply: bool
    ) -> None:
        self.peer = peer
        self.transfer_id = transfer_id
        self.size_bytes = source.size_bytes
        self.sent_bytes = 0
        self.error: str | None = None
        # The rest is the exchange's.
        self.is_reply = is_reply
        self.source = source
        self.on_done = on_done
        self.acked = 0
        self.next = 0
        self.lap = 0
        self.heard = False
        self.quiet = 0
        self.patience = _FIRST_PATIENCE

    def may_send(self, window: int) -> bool:
        """Whether there is a chunk that the window allows to be sent."""
        return self.next < min(self.acked + window, self.source.n_chunks)

    def go_back(self, index: int) -> None:
        """Send again from here on."""
        self.acked = self.next = index
        self.lap += 1


class Exchange:
    """All transfers of one endpoint with its peers. Everything runs in the reactor's thread."""

    def __init__(
        self,
        timers: Timers,
        send: Callable[[str, bytes], bool],
        spool_dir: Path,
        *,
        on_received: Callable[[str, Received], None],
        on_cancelled: Callable[[str, int, str], None],
        accept: Callable[[str, int], bool] = lambda _peer, _transfer_id: True,
        backed_up: Callable[[], bool] = lambda: False,
        chunk_bytes: int = CHUNK_BYTES,
        window: int = WINDOW,
    ) -> None:
        """send(peer, datagram): False where there is no connection. backed_up: whether the connection has not yet taken
        what was sent. accept(peer, transfer_id): whether a transfer may begin. on_cancelled(peer, transfer_id, reason):
        a peer has called off a transfer that is not on its way out: one that was delivered, one way or the other, or is
        not known."""
        self.rejected: dict[str, int] = {}
        self._timers = timers
        self._send = send
        spool_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._spool_dir = spool_dir
        self._on_received = on_received
        self._on_cancelled = on_cancelled
        self._accept = accept
        self._backed_up = backed_up
        self._chunk_bytes = chunk_bytes
        self._window = window
        self._ack_every = max(1, window // 2)
        self._burst = max(1, _BURST_BYTES // chunk_bytes)
        self._hold_s = _FIRST_HOLD_S
        self._outgoing: dict[tuple[str, int], Transfer] = {}
        self._lines: dict[str, list[Transfer]] = {}
        self._ready: dict[Transfer, None] = {}
        self._incoming: dict[str, dict[int, Assembly]] = {}
        self._finished: dict[str, dict[int, None]] = {}
        self._pump_timer: Timer | None = None
        self._tick_timer: Timer | None = None

    def send(
        self, peer: str, payload: Payload, on_done: Callable[[Transfer], None], *, reply_to: int | None = None
    ) -> Transfer:
        """Send a payload until the peer has it or refuses it: then, unless it is cancelled here, `on_done` is called.

        reply_to: the transfer that it answers. Raises OSError for a file that is not there.
        """
        source = Source(payload, self._chunk_bytes)
        transfer_id = secrets.randbits(63) if reply_to is None else reply_to
        transfer = Transfer(peer, transfer_id, source, on_done, is_reply=reply_to is not None)
        self._outgoing[peer, transfer_id] = transfer
        line = self._lines.setdefault(peer, [])
        line.append(transfer)
        if len(line) == 1:
            self._make_ready(transfer)
        if self._tick_timer is None:
            self._tick_timer = self._timers.call_later(_TICK_S, self._tick)
        return transfer

    def cancel(self, transfer: Transfer, reason: str) -> None:
        """Call a transfer off, delivered or not, with the reply that may be coming in for it; the peer is told."""
        self._forget(transfer)
        self._drop_incoming(transfer.peer, transfer.transfer_id)
        self._post(transfer.peer, Cancel(transfer.transfer_id, reason[:LONGEST_REASON]))

    def carried_bytes(self, peer: str, transfer_id: int) -> int:
        """Payload bytes that have come of a transfer whose end `on_received` has not been told; from any thread."""
        assembly = self._incoming.get(peer, {}).get(transfer_id)
        return 0 if assembly is None else assembly.carried_bytes

    def reconnected(self, peer: str | None = None) -> None:
        """Go on at once with what is unfinished, with one peer or all: the connection is there again."""
        lines = self._lines.values() if peer is None else [self._lines.get(peer, [])]
        for transfer in [line[0] for line in lines if line]:
            transfer.quiet, transfer.patience = 0, _FIRST_PATIENCE
            self._ask(transfer)
        for name in self._incoming if peer is None else [peer]:
            for assembly in self._incoming.get(name, {}).values():
                self._post(name, Ack(assembly.transfer_id, assembly.lap, assembly.next, assembly.n_chunks))

    def close(self) -> None:
        """Forget everything, without a word to anybody."""
        for timer in (self._pump_timer, self._tick_timer):
            if timer is not None:
                timer.cancel()
        self._outgoing.clear()
        self._lines.clear()
        self._ready.clear()
        for assemblies in self._incoming.values():
            for assembly in assemblies.values():
                assembly.discard()
        self._incoming.clear()

    def feed(self, peer: str, datagram: bytes) -> None:
        """Take what a peer has sent, whatever it is."""
        try:
            message = decode(datagram)
        except MalformedError:
            self._reject("not-a-datagram")
            return
        if isinstance(message, Chunk):
            self._take_chunk(peer, message)
        elif isinstance(message, Ack):
            self._take_ack(peer, message)
        elif isinstance(message, Offer):
            assembly = self._assembly(peer, message)
            if assembly is not None:
                assembly.lap = max(assembly.lap, message.lap)
                self._post(peer, Ack(message.transfer_id, message.lap, assembly.next, message.sent))
        else:
            self._take_cancel(peer, message)

    # The sender's part.

    def _make_ready(self, transfer: Transfer) -> None:
        self._ready[transfer] = None
        # Not at once: in one turn of the loop many acknowledgements may come in.
        if self._pump_timer is None:
            self._pump_timer = self._timers.call_later(0.0, self._pump)

    def _pump(self) -> None:
        self._pump_timer = None
        if self._backed_up():
            self._pump_timer = self._timers.call_later(self._hold_s, self._pump)
            self._hold_s = min(2 * self._hold_s, _LONGEST_HOLD_S)
            return
        self._hold_s = _FIRST_HOLD_S
        for _ in range(self._burst):
            # One transfer's window after the other, so that the first peer can begin while the last one waits.
            transfer = next(iter(self._ready), None)
            if transfer is None:
                return
            if not self._send_chunk(transfer) or not transfer.may_send(self._window):
                self._ready.pop(transfer, None)
        if self._ready:
            # A transfer that failed above may have set the timer for its peer's next one already.
            self._make_ready(next(iter(self._ready)))

    def _send_chunk(self, transfer: Transfer) -> bool:
        """Send the next chunk that the window allows; False where there is none, or no connection."""
        if not transfer.may_send(self._window):
            return False
        index = transfer.next
        try:
            data, digest = transfer.source.chunk(index)
        except OSError as error:
            self._post(transfer.peer, Cancel(transfer.transfer_id, "the sender cannot read it any more"))
            self._finish(transfer, str(error))
            return False
        # The whole size travels with each chunk: so a transfer needs no other datagram to begin.
        chunk = Chunk(
            transfer.transfer_id, transfer.lap, index, transfer.size_bytes, self._chunk_bytes, digest, memoryview(data)
        )
        if not self._post(transfer.peer, chunk):
            return False
        transfer.next += 1
        transfer.sent_bytes += len(data)
        return True

    def _take_ack(self, peer: str, ack: Ack) -> None:
        transfer = self._outgoing.get((peer, ack.transfer_id))
        if transfer is None:
            return  # it is finished, and this says so again
        if ack.next > transfer.source.n_read:
            self._reject("impossible-ack")
            return
        transfer.heard = True
        if ack.next == transfer.source.n_chunks:
            self._finish(transfer, None)
            return
        if ack.next > transfer.acked:
            transfer.acked = ack.next
            transfer.next = max(transfer.next, ack.next)
        if ack.lap == transfer.lap and ack.next < min(ack.before, transfer.next):
            transfer.go_back(ack.next)
        if transfer.may_send(self._window):
            self._make_ready(transfer)

    def _tick(self) -> None:
        self._tick_timer = None
        for transfer in [line[0] for line in self._lines.values()]:
            if transfer.heard:
                transfer.heard, transfer.quiet, transfer.patience = False, 0, _FIRST_PATIENCE
                continue
            if transfer in self._ready:
                continue  # it waits for this side's own connection
            transfer.quiet += 1
            if transfer.quiet >= transfer.patience:
                transfer.quiet, transfer.patience = 0, min(2 * transfer.patience, _LONGEST_PATIENCE)
                self._ask(transfer)
        if self._outgoing:
            self._tick_timer = self._timers.call_later(_TICK_S, self._tick)

    def _ask(self, transfer: Transfer) -> None:
        if transfer.next > transfer.acked:
            offer = Offer(transfer.transfer_id, transfer.lap, transfer.next, transfer.size_bytes, self._chunk_bytes)
            self._post(transfer.peer, offer)
        else:
            self._make_ready(transfer)

    def _finish(self, transfer: Transfer, error: str | None) -> None:
        self._forget(transfer)
        transfer.error = error
        transfer.on_done(transfer)

    def _forget(self, transfer: Transfer) -> None:
        if self._outgoing.pop((transfer.peer, transfer.transfer_id), None) is None:
            return
        self._ready.pop(transfer, None)
        line = self._lines[transfer.peer]
        line.remove(transfer)
        if line:
            self._make_ready(line[0])
        else:
            del self._lines[transfer.peer]

    # The receiver's part.

    def _take_chunk(self, peer: str, chunk: Chunk) -> None:
        assembly = self._assembly(peer, chunk)
        if assembly is None:
            return
        if not assembly.fits(chunk.index, chunk.data):
            self._reject("wrong-length")
            return
        assembly.lap = max(assembly.lap, chunk.lap)
        assembly.carried_bytes += len(chunk.data)
        if chunk.index != assembly.next:
            # Too early: others are lost. Too late: the sender does not know how far it is. Either is said but once.
            if assembly.told != (chunk.lap, assembly.next):
                assembly.told = (chunk.lap, assembly.next)
                self._post(peer, Ack(chunk.transfer_id, chunk.lap, assembly.next, chunk.index))
            return
        try:
            sound = assembly.add(chunk.data, chunk.digest)
        except OSError as error:
            self._reject("no-room")
            self._refuse(peer, chunk.transfer_id, f"cannot be kept: {error.strerror or error}")
            return
        if not sound:
            self._reject("wrong-digest")
            assembly.n_wrong += 1
            assembly.told = (chunk.lap, assembly.next)
            if assembly.n_wrong >= _MOST_WRONG:
                self._refuse(peer, chunk.transfer_id, "its digests are wrong")
            else:
                self._post(peer, Ack(chunk.transfer_id, chunk.lap, assembly.next, chunk.index + 1))
        elif assembly.next == assembly.n_chunks:
            self._complete(peer, assembly)
        elif assembly.next % self._ack_every == 0:
            self._post(peer, Ack(chunk.transfer_id, chunk.lap, assembly.next, assembly.next))

    def _assembly(self, peer: str, about: Chunk | Offer) -> Assembly | None:
        """What has come of a transfer; None, and the peer is told, where it is finished or not wanted."""
        assemblies = self._incoming.get(peer, {})
        assembly = assemblies.get(about.transfer_id)
        if assembly is not None:
            if (assembly.size_bytes, assembly.chunk_bytes) == (about.size_bytes, about.chunk_bytes):
                return assembly
            self._reject("inconsistent")
            return None
        if about.transfer_id in self._finished.get(peer, ()):
            n_chunks = count_chunks(about.size_bytes, about.chunk_bytes)
            self._post(peer, Ack(about.transfer_id, about.lap, n_chunks, n_chunks))
            return None
        if about.size_bytes > LARGEST_BYTES:
            self._reject("too-large")
            self._post(peer, Cancel(about.transfer_id, f"larger than {LARGEST_BYTES} bytes"))
            return None
        if not self._accept(peer, about.transfer_id):
            self._post(peer, Cancel(about.transfer_id, "not wanted"))
            return None
        # A reply is begun when its request is there, even where the acknowledgement of that was lost.
        request = self._outgoing.get((peer, about.transfer_id))
        if request is not None and not request.is_reply:
            self._finish(request, None)
        if len(assemblies) >= _MOST_HALF_DONE:
            self._reject("too-many")
            self._refuse(peer, next(iter(assemblies)), "too many at once")
        assembly = Assembly(about.transfer_id, about.size_bytes, about.chunk_bytes, self._spool_dir)
        self._incoming.setdefault(peer, {})[about.transfer_id] = assembly
        return assembly

    def _complete(self, peer: str, assembly: Assembly) -> None:
        finished = self._finished.setdefault(peer, {})
        finished[assembly.transfer_id] = None
        if len(finished) > _FINISHED_KEPT:
            del finished[next(iter(finished))]
        self._post(peer, Ack(assembly.transfer_id, assembly.lap, assembly.n_chunks, assembly.n_chunks))
        self._on_received(peer, assembly.finish())
        # Only now: what has come is counted at any time, there or here.
        self._incoming.get(peer, {}).pop(assembly.transfer_id, None)

    def _refuse(self, peer: str, transfer_id: int, reason: str) -> None:
        self._drop_incoming(peer, transfer_id)
        self._post(peer, Cancel(transfer_id, reason))

    def _drop_incoming(self, peer: str, transfer_id: int) -> None:
        assembly = self._incoming.get(peer, {}).pop(transfer_id, None)
        if assembly is not None:
            assembly.discard()

    def _take_cancel(self, peer: str, cancel: Cancel) -> None:
        transfer = self._outgoing.get((peer, cancel.transfer_id))
        if transfer is not None:
            self._finish(transfer, cancel.reason)
        else:
            self._on_cancelled(peer, cancel.transfer_id, cancel.reason)
        self._drop_incoming(peer, cancel.transfer_id)

    def _post(self, peer: str, datagram: Datagram) -> bool:
        return self._send(peer, encode(datagram))

    def _reject(self, reason: str) -> None:
        self.rejected[reason] = self.rejected.get(reason, 0) + 1
