"""What a process has in use, asked as often as a run of hours does."""

import tracemalloc

from edgebench.memory import resident_bytes


def test_asking_thousands_of_times_what_is_in_use_leaves_nothing_behind() -> None:
    assert resident_bytes("self") > 1_000_000
    tracemalloc.start()
    try:
        before_bytes, _ = tracemalloc.get_traced_memory()
        for _ in range(10_000):
            resident_bytes("self")
        after_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after_bytes - before_bytes < 20_000
