"""What became of each sample, by the journals that the programs of a run keep apart from its records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

ENDING = ".journal"
_SAME = 1e-6
"""Values that differ by less are of one sample; they pass through 32 bits."""

Kind = Literal["accepted", "sent", "heard"]
_Decision = tuple[str, int]
"""By whom, and when that was done with it: two that differ in either were made apart."""


class Line(msgspec.Struct, frozen=True, array_like=True):
    """device, incarnation, seq: the sample's. value: tells samples apart; a decision has that of the sample on which it
    was made. decider, finished_ns: which decision it is."""

    kind: Kind
    device: str
    incarnation: int
    seq: int
    value: float
    decider: str = ""
    finished_ns: int = 0


class Sums(NamedTuple):
    """accepted: samples that devices took on. Of these, missing: no device has heard of them again; twice: two
    decisions were made on them; wrongly: they were decided on something else, or never accepted."""

    accepted: int
    missing: int
    twice: int
    wrongly: int

    @property
    def exactly_once(self) -> bool:
        """Whether there were samples, and each was decided once."""
        return bool(self.accepted) and not (self.missing or self.twice or self.wrongly)


class _Key(NamedTuple):
    device: str
    incarnation: int
    seq: int


def sums(folder: Path) -> Sums:
    """Of all journals in a folder."""
    values: dict[_Key, float] = {}
    made: defaultdict[_Key, set[_Decision]] = defaultdict(set)
    heard: defaultdict[_Key, set[_Decision]] = defaultdict(set)
    decided_on: defaultdict[_Key, set[float]] = defaultdict(set)
    for line in _lines(folder):
        key = _Key(line.device, line.incarnation, line.seq)
        if line.kind == "accepted":
            values[key] = line.value
        else:
            (made if line.kind == "sent" else heard)[key].add((line.decider, line.finished_ns))
            decided_on[key].add(line.value)
    # What was decided was accepted, whether or not its device lived to say so.
    accepted = values.keys() | made.keys()
    wrongly = sum(any(abs(on - value) > _SAME for on in decided_on[key]) for key, value in values.items())
    return Sums(
        accepted=len(accepted),
        missing=len(accepted - heard.keys()),
        twice=sum(len(made[key] | heard[key]) > 1 for key in accepted),
        wrongly=wrongly + len(heard.keys() - accepted),
    )


def _lines(folder: Path) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Line)
    for path in sorted(folder.glob(f"*{ENDING}")):
        yield from map(decoder.decode, path.read_bytes().splitlines())
