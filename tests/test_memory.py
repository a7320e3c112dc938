"""What is freed goes back to the system, so that tokenising and training do not grow with the corpus."""

import subprocess
import sys
from pathlib import Path

import pytest

from valle.memory import peak_memory_gib

# Blocks too small for glibc to map by themselves; each one that stays holds what was freed around it.
PROGRAM = """
from valle.memory import give_memory_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

before = resident()
blocks = [bytearray(60_000) for _ in range(2000)]
kept = blocks[::50]
del blocks
freed = resident() - before
give_memory_back()
print(freed, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident size from /proc")
def test_freed_memory_is_given_back_though_some_of_it_stays() -> None:
    kept, left = map(float, subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split())
    assert kept > 60, "the allocator gave it back by itself, so this test shows nothing"
    assert left < 15


KEEPER = """
from valle.memory import MemoryKeeper, resident_bytes

keeper = MemoryKeeper(slack=50 * 2**20)
checks = [keeper.check()]
before = resident_bytes()
blocks = [bytearray(60_000) for _ in range(400)]  # 23 MiB: less than the slack
checks.append(keeper.check())
blocks += [bytearray(60_000) for _ in range(1600)]  # 114 MiB
kept = blocks[::50]
del blocks
checks += [keeper.check(), keeper.check()]
print(checks, (resident_bytes() - before) / 2**20 < 15)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident size from /proc")
def test_memory_is_given_back_only_once_enough_is_held() -> None:
    said = subprocess.run([sys.executable, "-c", KEEPER], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[False, False, True, False] True"


THREADS = """
import sys, threading
from valle.memory import resident_bytes, share_one_arena

if sys.argv[1] == "shared":
    share_one_arena()
kept, barrier, turn = [], threading.Barrier(4), threading.Lock()

def work():
    barrier.wait()  # all at once, so that each has an arena
    with turn:
        blocks = [bytearray(60_000) for _ in range(1000)]
        kept.append(blocks[-1])

before = resident_bytes()
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print((resident_bytes() - before) / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="arenas are glibc's")
def test_threads_use_what_other_threads_have_freed() -> None:
    def held(how: str) -> float:
        return float(subprocess.run([sys.executable, "-c", THREADS, how], capture_output=True, text=True, check=True).stdout)

    assert held("shared") < 110 < 180 < held("apart"), "57 MiB by each of four threads"


def test_the_most_that_was_held_at_once_is_known() -> None:
    block = bytearray(400 * 2**20)
    block[:: 2**12] = b"x" * len(block[:: 2**12])  # every page is touched
    del block
    assert peak_memory_gib() >= 0.39
