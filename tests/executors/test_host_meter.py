import subprocess
import sys

from edgebench.clock import now_s, sleep_s
from edgebench.executors.host_meter import HostMeter, own_cpu_s

BURN_S = 0.6
BURN = f"import time\nwhile time.process_time() < {BURN_S}: pass"
ORPHAN = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {BURN!r}], stdout=2).pid)"
"""A process whose child outlives it, and is nobody's from then on."""


def test_the_time_of_a_child_is_the_runs_own_while_it_lives_and_when_it_has_ended() -> None:
    before_s = own_cpu_s()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert own_cpu_s() - before_s >= BURN_S - 0.05


def test_the_time_of_a_process_elsewhere_is_foreign() -> None:
    meter = HostMeter()
    before_s, began_s = own_cpu_s(), now_s()
    pid = int(subprocess.run([sys.executable, "-c", ORPHAN], check=True, capture_output=True, text=True).stdout)
    while _lives(pid):
        sleep_s(0.02)
    # Its parent, which starts Python and ends, is our own.
    assert own_cpu_s() - before_s < BURN_S
    usage = meter.sample()
    assert usage is not None
    assert usage.foreign is not None
    cores_s = (now_s() - began_s) * _cores()
    assert usage.foreign * cores_s >= 0.5 * BURN_S


def test_shares_are_of_all_cores_and_within_one() -> None:
    meter = HostMeter()
    sleep_s(0.2)
    used = meter.sample()
    assert used is not None
    assert used.since_ns is not None
    assert used.at_ns - used.since_ns >= 200_000_000
    assert used.foreign is not None
    assert 0.0 <= used.foreign <= used.busy + 1e-9 <= 1.0 + 1e-9
    assert used.pressure is None or 0.0 <= used.pressure <= 1.0


def _cores() -> int:
    import psutil

    return int(psutil.cpu_count() or 1)


def _lives(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
