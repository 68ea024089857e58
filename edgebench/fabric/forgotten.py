"""Which samples a node has answered and no longer has the answers of: so that what is forgotten is known to be, also by
the next life of the node."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgebench.core.samples import SampleKey
from edgebench.fabric.keep import Keep

WINDOW = 16_384
"""Of so many numbers, up to a device's last that is forgotten, it is known of each whether it is. All before count as
forgotten, so that a device takes 2 KiB at most, however long it goes on; in order, as samples mostly come, a few bytes.
"""


class _Numbers:
    """All below `first`, and from there on those whose bit is set."""

    __slots__ = ("bits", "first")

    def __init__(self, first: int = 0, bits: int = 0) -> None:
        self.first = first
        self.bits = bits

    def __contains__(self, number: int) -> bool:
        return number < self.first or bool(self.bits >> number - self.first & 1)

    def add(self, number: int) -> None:
        if number < self.first:
            return
        self._pass(number - self.first - WINDOW + 1)
        self.bits |= 1 << number - self.first
        self._pass((~self.bits & self.bits + 1).bit_length() - 1)  # those up to the first gap

    def _pass(self, count: int) -> None:
        """Begin so many numbers later."""
        if count > 0:
            self.bits >>= count
            self.first += count


class Forgotten:
    """Samples by key. Whoever calls sees to it that one thread does at a time."""

    def __init__(self, path: Path, *, power: bool) -> None:
        """power: what is added survives a power cut, too. Raises FabricError where what an earlier life has left at
        `path` is damaged."""
        self._keep = Keep(path, power=power)
        self._by_sender: dict[tuple[str, int, str], _Numbers] = {}
        """By device, incarnation and the edge that passed on, as in `SampleKey`."""
        self._state = 0
        """The number of the last state that is kept."""
        states = list(self._keep)
        if states:
            self._state = states[-1].seq
            self._keep.drop(states[:-1])  # a crash came before that
            written = msgspec.msgpack.decode(self._keep.get(states[-1]), type=list[tuple[str, int, str, int, bytes]])
            for device, incarnation, by, first, bits in written:
                self._by_sender[device, incarnation, by] = _Numbers(first, int.from_bytes(bits, "little"))

    def __contains__(self, key: SampleKey) -> bool:
        numbers = self._by_sender.get((key.device, key.incarnation, key.by))
        return numbers is not None and key.seq in numbers

    def add(self, keys: Iterable[SampleKey]) -> bool:
        """These are about to be forgotten. False where the disk is full, so that the next life would not know."""
        for key in keys:
            self._by_sender.setdefault((key.device, key.incarnation, key.by), _Numbers()).add(key.seq)
        if not self._keep.put(SampleKey("", 0, self._state + 1), self._encoded()):
            return False
        self._keep.sync()
        self._keep.drop([SampleKey("", 0, self._state)])
        self._state += 1
        return True

    def close(self) -> None:
        """Close the file."""
        self._keep.close()

    def _encoded(self) -> bytes:
        return msgspec.msgpack.encode(
            [
                (*sender, each.first, each.bits.to_bytes((each.bits.bit_length() + 7) // 8, "little"))
                for sender, each in self._by_sender.items()
            ]
        )
