"""Work in processes of its own: a crash, a hang or an error costs one piece."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from synthoma.errors import DataError
from synthoma.preparation.isolated import Failure, run_isolated


def work(job: str, alive: Callable[[], None]) -> str:
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "exit":
        os._exit(3)
    if job == "hang":
        time.sleep(60)
    if job == "slow":
        for _ in range(24):
            time.sleep(0.25)
            alive()
    if job == "error":
        raise DataError("this file is damaged.")
    if job == "mistake":
        raise ZeroDivisionError("ours")
    return job.upper()


def test_what_crashes_hangs_or_fails_costs_one_piece() -> None:
    jobs = ["a", "crash", "hang", "error", "exit", "slow", "b"]
    found = dict(run_isolated(work, jobs, workers=3, patience_s=5.0))
    assert found[0] == "A"
    assert found[6] == "B"
    # It takes longer than the patience, but says that it is alive.
    assert found[5] == "SLOW"
    assert found[1] == Failure("the process that read it ended unexpectedly (signal 11)")
    assert found[2] == Failure("no progress within 5 s; given up")
    assert found[3] == Failure("this file is damaged.")
    assert found[4] == Failure("the process that read it ended unexpectedly (exit code 3)")


def test_our_own_mistakes_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: ours"):
        list(run_isolated(work, ["mistake"], workers=1, patience_s=20))


def test_nothing_is_left_running_when_the_caller_stops() -> None:
    started = time.monotonic()
    results = run_isolated(work, ["a", "hang"], workers=2, patience_s=60)
    assert next(results) == (0, "A")
    results.close()
    assert time.monotonic() - started < 20
