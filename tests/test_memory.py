"""What a process has in use, asked as often as a run of hours does."""

import subprocess
import sys

import pytest

# A new process: in one that runs tests Python's table of interned strings may have room for more.
ASKING = """
import tracemalloc
from edgebench.memory import resident_bytes
assert resident_bytes("self") > 1_000_000
tracemalloc.start()
for _ in range(100_000):
    resident_bytes("self")
print(tracemalloc.get_traced_memory()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system tells by other means")
def test_asking_as_often_as_in_a_day_what_is_in_use_leaves_nothing_behind() -> None:
    said = subprocess.run([sys.executable, "-c", ASKING], capture_output=True, text=True, check=True).stdout
    assert int(said) < 20_000
