"""What a machine draws: by the counters of its processor (RAPL), or by a meter of the user's own."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edgebench.clock import now_s
from edgebench.errors import EdgebenchError, describe_error
from edgebench.fabric.records import RAPL, Entry, Metered

_RAPL = Path("/sys/class/powercap")
_MOST_PACKAGE_W = 1_000.0
"""What would be more since the last reading was none of it: the counter has begun anew, as after a suspend."""
_LEAST_S = 1.0
_NOTHING_J = 1.0
"""By so much a meter may go back, which rounds, or integrates what it sees a little below zero: nothing was drawn then.
A counter that was set back, as a plug's after a power cut, goes back by more, unless it had hardly counted."""


class Meter(Protocol):
    """Something that tells energy. source: in words, which meter, and what of the machine it sees."""

    source: str

    def joules(self) -> float:
        """Drawn since some moment in the past, J; only differences are used. It is asked once a second, and has to
        answer at once."""
        ...


class Rapl:
    """The processor packages of this machine, by the kernel's powercap. It leaves out all but the processors."""

    source = RAPL

    def __init__(self, packages: tuple[Path, ...]) -> None:
        """Raises OSError where they may not be read, ValueError where there is no number."""
        self._packages = packages
        self._last = [self._read(package, "energy_uj") for package in packages]
        self._wrapped = [0] * len(packages)
        self._at_s = now_s()

    @staticmethod
    def below(folder: Path = _RAPL) -> Rapl | None:
        """That of a machine whose powercap is there; None where it has none. Raises as the constructor does."""
        # Beside packages may be the platform, of which they are a part.
        packages = [zone for zone in folder.glob("*-rapl:*") if (zone / "name").read_text().startswith("package")]
        return Rapl(tuple(sorted(packages))) if packages else None

    def joules(self) -> float:
        """See `Meter`. Raises EdgebenchError where a counter has begun anew, so that it is not known what was drawn."""
        last_s, self._at_s = self._at_s, now_s()
        most_uj = 1e6 * _MOST_PACKAGE_W * max(_LEAST_S, self._at_s - last_s)
        for index, package in enumerate(self._packages):
            now, last = self._read(package, "energy_uj"), self._last[index]
            if now < last:
                range_uj = self._read(package, "max_energy_range_uj")
                if now + range_uj - last > most_uj:
                    raise EdgebenchError(f"{package.name} has begun anew")
                self._wrapped[index] += range_uj
            self._last[index] = now
        return (sum(self._last) + sum(self._wrapped)) / 1e6

    @staticmethod
    def _read(package: Path, what: str) -> int:
        return int((package / what).read_text())


def meter_of(where: str | None, tell: Callable[[str], None] = lambda _: None, powercap: Path = _RAPL) -> Meter | None:
    """The meter that `module:attribute` names, a callable that gives one; None: RAPL, where it may be read here.

    tell: why RAPL, which is there, cannot be used. Raises EdgebenchError.
    """
    if where is None:
        try:
            return Rapl.below(powercap)
        except (OSError, ValueError) as error:
            tell(f"power is not measured: {describe_error(error)} (since 2020 RAPL is root's alone to read)")
            return None
    module, _, attribute = where.partition(":")
    if not module or not attribute:
        raise EdgebenchError(f"--meter {where}: give module:attribute, of a callable that gives a meter")
    try:
        meter: Meter = getattr(importlib.import_module(module), attribute)()
        float(meter.joules())
        str(meter.source)
    except (Exception, SystemExit) as error:  # a user's own code may raise anything
        raise EdgebenchError(f"--meter {where}: {describe_error(error)}") from error
    return meter


class MeterReader:
    """The mean power between each two readings. From one thread."""

    def __init__(self, meter: Meter | None, note: Callable[[Entry], None]) -> None:
        """note: is told which meter it is, and why it tells no more, should it fail."""
        self._meter = meter
        self._note = note
        self._last: tuple[float, float] | None = None
        if meter is not None:
            note(Metered(str(meter.source)))
            self.watts()

    def watts(self) -> float | None:
        """Since it was asked last; None where it is not known."""
        if self._meter is None:
            return None
        try:
            at_s, drawn_j = now_s(), _checked(float(self._meter.joules()), self._last)
        except Exception as error:  # noqa: BLE001  (a user's own code may raise anything)
            why = str(error) if isinstance(error, EdgebenchError) else describe_error(error)
            self._note(Metered(str(self._meter.source), why))
            self._meter = None
            return None
        last, self._last = self._last, (at_s, drawn_j)
        return None if last is None or at_s <= last[0] else (drawn_j - last[1]) / (at_s - last[0])


def _checked(drawn_j: float, last: tuple[float, float] | None) -> float:
    """What was drawn so far, which is never less than before. Raises EdgebenchError where it cannot be that."""
    if not math.isfinite(drawn_j):
        raise EdgebenchError(f"it tells {drawn_j} J")
    if last is None:
        return drawn_j
    if drawn_j < last[1] - _NOTHING_J:
        raise EdgebenchError(f"it has gone back, from {last[1]:g} to {drawn_j:g} J")
    return max(drawn_j, last[1])
