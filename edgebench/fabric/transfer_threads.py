"""Transfers side by side, each in a thread: over links of their own they take as long as if each were the only one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from edgebench.errors import FabricError
from edgebench.fabric.control import LONG_SILENCE_S, HttpClient
from edgebench.fabric.patience import ENDLESS_S, Patience
from edgebench.fabric.transfers import CalledOffError

AT_ONCE = 4
"""Transfers that share an address, and so the way to it: more of them would only take each other's time."""


class Transfer:
    """Something to be done with a server, tried again until it is done, fails for good, or is called off."""

    def __init__(self, do: Callable[[HttpClient, Patience], object], ended: Callable[[Exception | None], None]) -> None:
        """do: in a thread; raises FabricError or OSError where it fails for good. ended(failure): in that thread."""
        self._do = do
        self._ended = ended
        self._patience = Patience(ENDLESS_S)
        self._lock = threading.Lock()
        self._client: HttpClient | None = None

    def run(self, client: HttpClient) -> None:
        """Do it; raises nothing that is foreseen."""
        failure: Exception | None = None
        client.called_off = lambda: self._patience.called_off
        with self._lock:
            self._client = client
        try:
            if self._patience.called_off:
                raise CalledOffError("called off before it has begun")
            self._do(client, self._patience)
        except (FabricError, OSError) as error:
            failure = error
        with self._lock:
            self._client = None
        self._ended(failure)

    def hurry(self, stalled_s: float | None = None) -> None:
        """Try again at once, if it waits to; and if nothing has moved for so long, by another connection."""
        self._patience.hurry()
        with self._lock:
            if self._client is not None and stalled_s is not None and self._patience.quiet_s >= stalled_s:
                self._client.interrupt()
                self._patience.renew()  # others who have a part in it are not to break off what now begins

    def call_off(self) -> None:
        """Do not begin, or end as soon as it can be; from any thread."""
        self._patience.call_off()
        with self._lock:
            if self._client is not None:
                self._client.interrupt()


class TransferThreads:
    """Carries transfers out, over connections that are kept. From any thread. With nothing to do it has no thread."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._lock = threading.Lock()
        self._lanes: dict[str, _Lane] = {}
        self._threads: set[threading.Thread] = set()
        self._running: set[Transfer] = set()
        self._closed = False

    def share(self, url: str) -> None:
        """One client more has its transfers with this server: as many go on at once, `AT_ONCE` at most."""
        with self._lock:
            lane = self._lanes.setdefault(url, _Lane())
            lane.most = min(lane.most + 1, AT_ONCE)

    def put(self, url: str, transfer: Transfer) -> None:
        """Carry a transfer out, in its turn, with a server that is shared. After `close` it is never begun."""
        with self._lock:
            lane = self._lanes[url]
            lane.waiting.append(transfer)
            if lane.active < lane.most and not self._closed:
                lane.active += 1
                thread = threading.Thread(target=self._work, args=(url, lane), name="transfer", daemon=True)
                self._threads.add(thread)
                thread.start()

    def close(self) -> None:
        """Call off what goes on, begin no more, and end the threads."""
        with self._lock:
            self._closed = True
            running, threads = list(self._running), list(self._threads)
        for transfer in running:
            transfer.call_off()
        for thread in threads:
            thread.join()
        for lane in self._lanes.values():
            for client in lane.idle:
                client.close()

    def _work(self, url: str, lane: _Lane) -> None:
        with self._lock:
            client = lane.idle.pop() if lane.idle else HttpClient(url, self._token, timeout_s=LONG_SILENCE_S)
        while True:
            with self._lock:
                if not lane.waiting or self._closed:
                    lane.active -= 1
                    lane.idle.append(client)
                    self._threads.discard(threading.current_thread())
                    return
                transfer = lane.waiting.popleft()
                self._running.add(transfer)
            transfer.run(client)
            with self._lock:
                self._running.discard(transfer)


class _Lane:
    """What goes on with one server."""

    def __init__(self) -> None:
        self.most = 0
        self.active = 0
        self.waiting: deque[Transfer] = deque()
        self.idle: list[HttpClient] = []
