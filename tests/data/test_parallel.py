"""Threads: one per available processor, and answers in order."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.parallel import map_threads, processors

PROGRAM = """
import os, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from querytier.data.parallel import map_threads, processors
print(processors(), len(set(map_threads(lambda _: threading.get_ident(), range(50)))))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux pins a process to processors")
def test_a_process_pinned_to_one_processor_starts_one_thread():
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert answer.stdout.split() == [b"1", b"1"]


def test_there_are_at_most_as_many_processors_as_the_machine_has():
    assert 1 <= processors() <= os.cpu_count()


@given(st.lists(st.integers(0, 3), max_size=8))
def test_answers_come_in_the_order_of_their_items(items):
    def slow_where_small(item):
        time.sleep((3 - item) / 10_000)
        return item

    assert map_threads(slow_where_small, items) == items


def test_an_error_of_the_function_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        map_threads(lambda item: 1 // item, [1, 0])
