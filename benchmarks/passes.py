"""Whole passes over a set of tiles, each with a freshly opened slide: nothing comes from the cache of the pass before.

This file must import under any Python with nothing installed: it is used by the project's environment and by the peer's.
"""

import time
from collections.abc import Callable
from typing import TypeVar

Opened = TypeVar("Opened")
LEAST_PASSES = 2


def timed_passes(prepare: Callable[[], Opened], work: Callable[[Opened], object], seconds: float) -> list[float]:
    """Seconds of each call of `work` on what `prepare` gives (which is not timed), for about `seconds`, at least twice."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_PASSES or time.perf_counter() < end:
        opened = prepare()
        start = time.perf_counter()
        work(opened)
        times.append(time.perf_counter() - start)
    return times
