"""What worker processes are set up with."""

import ctypes
import subprocess
import sys

import pytest

CLIPS = """
import resource, sys
import numpy as np
from nlnet.data.workers import keep_freed_memory

def clip():  # the memory of a clip: its box, scaled, mirrored
    held = []
    for size in (3_900_000, 4_800_000, 4_800_000):
        held.append(np.empty(size, np.uint8))
        held[-1].fill(1)

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(5):
    clip()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    clip()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_memory_that_a_clip_gives_back_is_there_for_the_next_one() -> None:
    faults = {
        how: float(
            subprocess.run([sys.executable, "-c", CLIPS, how], capture_output=True, text=True, check=True).stdout
        )
        for how in ("kept", "given back")
    }
    assert faults["kept"] < 20 < 500 < faults["given back"]  # pages of 4 KiB; a clip has 3300
