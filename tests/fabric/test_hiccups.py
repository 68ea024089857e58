import signal
import subprocess
import sys
import tracemalloc

from edgebench.clock import NS_PER_MS, NS_PER_S, sleep_s
from edgebench.fabric.hiccups import HiccupLog, HiccupMeter
from edgebench.fabric.records import Hiccup

SECOND_NS = 1_000 * NS_PER_S


def at_ms(ms: float) -> int:
    return SECOND_NS + round(ms * NS_PER_MS)


def test_wakings_that_were_slept_through_are_late_as_well() -> None:
    log = HiccupLog(period_ns=20 * NS_PER_MS)
    assert log.note(due_ns=at_ms(0), at_ns=at_ms(50)) == at_ms(60)
    # Due at 0, 20 and 40 ms.
    assert log.take() == [Hiccup(1_000, most_ns=50 * NS_PER_MS, sum_ns=(50 + 30 + 10) * NS_PER_MS, count=3)]


def test_a_stall_belongs_to_every_second_in_which_a_waking_was_due() -> None:
    log = HiccupLog(period_ns=20 * NS_PER_MS)
    log.note(due_ns=at_ms(980), at_ns=at_ms(1_005))
    assert log.take() == [
        Hiccup(1_000, most_ns=25 * NS_PER_MS, sum_ns=25 * NS_PER_MS, count=1),
        Hiccup(1_001, most_ns=5 * NS_PER_MS, sum_ns=5 * NS_PER_MS, count=1),
    ]


def test_what_was_taken_is_not_given_again() -> None:
    log = HiccupLog()
    log.note(at_ms(0), at_ms(1))
    assert log.take()
    assert log.take() == []


def test_hours_in_which_nobody_asks_take_a_few_bytes_a_second() -> None:
    log = HiccupLog(period_ns=NS_PER_S)
    tracemalloc.start()
    try:
        for second in range(3_600):
            log.note(SECOND_NS + second * NS_PER_S, SECOND_NS + second * NS_PER_S + 1)
        taken_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken_bytes < 3_600 * 40
    assert log.take()[-1] == Hiccup(1_000 + 3_599, most_ns=1, sum_ns=1, count=1)


STOPPED = """
import sys
from edgebench.clock import sleep_s
from edgebench.fabric.hiccups import HiccupMeter

meter = HiccupMeter()
meter.start()
sleep_s(0.1)
print("ready", flush=True)
sys.stdin.readline()
sleep_s(0.1)
print(max(each.most_ns for each in meter.take()), flush=True)
"""


def test_a_process_that_stood_still_has_a_hiccup_as_long() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        sleep_s(0.5)
        process.send_signal(signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.close()
        # It may have slept through the first 20 ms of it before a waking was due.
        assert int(process.stdout.readline()) >= 470 * NS_PER_MS


def test_a_meter_wakes_fifty_times_a_second_until_it_is_ended() -> None:
    meter = HiccupMeter()
    meter.start()
    sleep_s(0.5)
    meter.end()
    assert sum(each.count for each in meter.take()) >= 20
    sleep_s(0.1)
    assert meter.take() == []
