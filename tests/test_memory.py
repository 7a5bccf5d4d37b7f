"""Large blocks that were freed are used again: no new pages for them from the kernel."""

import os
import platform
import subprocess
import sys

import pytest

from synthoma.memory import keep_freed_memory

FAULTS = """
import resource
import torch
from synthoma.memory import keep_freed_memory
assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# The heap grows a few times until it has room for every block wherever it happens to lie.
for _ in range(8):
    faults()
print(faults())
"""


def faults_of_a_process() -> int:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    answer = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env=plain,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(answer.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives large blocks back at once")
def test_freed_blocks_are_kept() -> None:
    # Four blocks of 64 MiB; with huge pages as the default even fresh ones take few faults, so only an upper limit holds.
    assert faults_of_a_process() < 32


def test_malloc_tuned_by_the_user_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert keep_freed_memory() is False
