"""What tells the power: the processor's counters, or a meter of the user's own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgebench.clock import now_s, sleep_s
from edgebench.errors import EdgebenchError
from edgebench.executors.here import ThisMachine
from edgebench.executors.power_meter import MeterReader, Rapl, meter_of
from edgebench.fabric.records import Entry, HostUsed, Metered


def zone(folder: Path, number: str, name: str, microjoules: int) -> Path:
    path = folder / f"intel-rapl:{number}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text("1000000\n")
    return path


def test_packages_add_up_without_what_is_within_or_around_them_and_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 900_000)
    zone(tmp_path, "1", "package-1", 0)
    zone(tmp_path, "0:0", "core", 1)
    zone(tmp_path, "2", "psys", 2)
    (tmp_path / "intel-rapl").mkdir()
    meter = Rapl.below(tmp_path)
    assert meter is not None
    before = meter.joules()
    zone(tmp_path, "0", "package-0", 100_000)
    zone(tmp_path, "1", "package-1", 500_000)
    zone(tmp_path, "2", "psys", 999_999)
    assert meter.joules() - before == pytest.approx(0.2 + 0.5)
    zone(tmp_path, "0", "package-0", 50_000)
    assert meter.joules() - before == pytest.approx(0.2 + 0.5 + 0.95)


def test_a_counter_that_begins_anew_is_not_taken_for_one_that_wraps(tmp_path: Path) -> None:
    package = zone(tmp_path, "0", "package-0", 100_000_000_000)
    (package / "max_energy_range_uj").write_text("262143328850\n")
    meter = Rapl.below(tmp_path)
    assert meter is not None
    (package / "energy_uj").write_text("5000000\n")  # else it had drawn 162 kJ in a moment
    with pytest.raises(EdgebenchError, match=r"^intel-rapl:0 has begun anew$"):
        meter.joules()


def test_a_machine_without_counters_has_no_meter_and_one_that_may_not_read_them_says_so(tmp_path: Path) -> None:
    told: list[str] = []
    assert meter_of(None, told.append, tmp_path / "none") is None
    assert not told
    package = zone(tmp_path, "0", "package-0", 0)
    (package / "energy_uj").unlink()
    (package / "energy_uj").mkdir()  # which root cannot read either
    assert meter_of(None, told.append, tmp_path) is None
    (line,) = told
    assert line.startswith("power is not measured: ")
    assert "root" in line


class Wall:
    """A meter at the plug."""

    source = "a plug"

    def joules(self) -> float:
        return 12.5


def leaving() -> Wall:
    """Nobody has such a meter, and it says so."""
    raise SystemExit(0)


def test_a_meter_of_ones_own_is_named_and_a_mistake_is_one_line() -> None:
    meter = meter_of(f"{__name__}:Wall")
    assert meter is not None
    assert (meter.source, meter.joules()) == ("a plug", 12.5)
    with pytest.raises(EdgebenchError, match=r"^--meter wall: give module:attribute"):
        meter_of("wall")
    with pytest.raises(EdgebenchError, match=r"^--meter no_such_module:Wall: ModuleNotFoundError: "):
        meter_of("no_such_module:Wall")
    with pytest.raises(EdgebenchError, match=rf"^--meter {__name__}:leaving: SystemExit: 0 \("):
        meter_of(f"{__name__}:leaving")


@pytest.mark.parametrize(
    ("impossible", "why"),
    [(math.nan, "it tells nan J"), (math.inf, "it tells inf J"), (8.5, "it has gone back, from 10 to 8.5 J")],
)
def test_what_no_machine_can_have_drawn_is_a_failure_of_the_meter(impossible: float, why: str) -> None:
    class Reset:
        source = "a plug"
        answers = iter((10.0, impossible))

        def joules(self) -> float:
            return next(self.answers)

    noted: list[Entry] = []
    reader = MeterReader(Reset(), noted.append)
    sleep_s(0.01)
    assert reader.watts() is None
    assert noted == [Metered("a plug"), Metered("a plug", why)]


def test_a_meter_that_goes_back_by_next_to_nothing_has_seen_nothing_drawn() -> None:
    class Shunt:
        source = "a shunt"
        answers = iter((10.0, 10.0 - 1e-9, 9.2, 11.0))

        def joules(self) -> float:
            return next(self.answers)

    noted: list[Entry] = []
    reader = MeterReader(Shunt(), noted.append)
    watts = []
    for _ in range(3):
        sleep_s(0.01)
        watts.append(reader.watts())
    assert watts[:2] == [0.0, 0.0]
    assert watts[2] is not None
    assert 0 < watts[2] <= 1.0 / 0.01  # from 10 J on, and not from 9.2
    assert noted == [Metered("a shunt")]


class Failing:
    """It answers three times."""

    source = "a plug"

    def __init__(self) -> None:
        self._answers = iter((0.0, 30.0, 30.0))

    def joules(self) -> float:
        try:
            return next(self._answers)
        except StopIteration:
            raise OSError("no answer") from None


def test_a_meter_that_fails_tells_no_more_and_says_why_once() -> None:
    noted: list[Entry] = []
    reader = MeterReader(Failing(), noted.append)
    sleep_s(0.01)
    first = reader.watts()
    assert first is not None
    assert 0 < first < 3_000
    sleep_s(0.01)
    assert [reader.watts() for _ in range(3)] == [0.0, None, None]
    known, failed = noted
    assert known == Metered("a plug")
    assert isinstance(failed, Metered)
    assert failed.failed is not None
    assert failed.failed.startswith("OSError: no answer")


def test_the_use_of_a_machine_is_told_with_its_power(tmp_path: Path) -> None:
    class Steady:
        source = "a plug"

        def joules(self) -> float:
            return 5.0 * now_s()

    noted: list[Entry] = []
    machine = ThisMachine(tmp_path, noted.append, meter=Steady())
    while not any(isinstance(each, HostUsed) for each in noted):
        sleep_s(0.05)
        machine.reports()
    machine.close()
    usage = next(each.usage for each in noted if isinstance(each, HostUsed))
    assert usage.watts == pytest.approx(5.0, rel=0.1)
    assert Metered("a plug") in noted
