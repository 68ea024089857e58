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
forgotten, so that a life of a device takes 2 KiB at most, however long it is; in order, as samples mostly come, a few
bytes.
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
    """Samples by key, with a record for each device's life. Whoever calls sees to it that one thread adds or writes at
    a time, and that nobody asks while one adds."""

    def __init__(self, path: Path, *, power: bool) -> None:
        """power: what is written survives a power cut, too. Raises FabricError where what an earlier life has left at
        `path` is damaged."""
        self._keep = Keep(path, power=power)
        self._by_sender: dict[tuple[str, int, str], _Numbers] = {}
        """By device, incarnation and the edge that passed on, as in `SampleKey`."""
        self._unwritten: set[tuple[str, int, str]] = set()
        for key in self._keep:
            first, bits = msgspec.msgpack.decode(self._keep.get(key), type=tuple[int, bytes])
            self._by_sender[_sender(key)] = _Numbers(first, int.from_bytes(bits, "little"))

    def __contains__(self, key: SampleKey) -> bool:
        numbers = self._by_sender.get(_sender(key))
        return numbers is not None and key.seq in numbers

    def add(self, keys: Iterable[SampleKey]) -> None:
        """These are about to be forgotten."""
        for key in keys:
            sender = _sender(key)
            self._by_sender.setdefault(sender, _Numbers()).add(key.seq)
            self._unwritten.add(sender)

    def write(self) -> bool:
        """Have the next life know all that was added. False where the disk is full, so that it would not."""
        for sender in list(self._unwritten):
            (device, incarnation, by), numbers = sender, self._by_sender[sender]
            bits = numbers.bits.to_bytes((numbers.bits.bit_length() + 7) // 8, "little")
            if not self._keep.put(SampleKey(device, incarnation, 0, by), msgspec.msgpack.encode((numbers.first, bits))):
                return False
            self._unwritten.discard(sender)
        self._keep.sync()
        return True

    def close(self) -> None:
        """Close the file."""
        self._keep.close()


def _sender(key: SampleKey) -> tuple[str, int, str]:
    return key.device, key.incarnation, key.by
