"""The line protocol of benchmark workers: each peer is a process of its own, and only one of them works at a time.

A worker builds its networks, prints a line of JSON that describes them, then answers each line `{"seconds": s}` on its
standard input with a line of JSON with the seconds of every training step of that time (and of `helpers`, processor time
of other processes that worked for it). This file must import under any
Python with nothing installed: it is used by the project's environment and by the peer's.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

Measure = Callable[[float], dict[str, Any]]
LEAST_STEPS = 3


def serve(description: dict[str, Any], measure: Measure) -> None:
    """Announce a worker and answer requests until standard input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not disturb the protocol
    print(json.dumps(description), file=answers, flush=True)
    for line in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        reply = measure(float(json.loads(line)["seconds"]))
        own = time.process_time() - processor
        reply |= {"wall": time.perf_counter() - wall, "processor": own + reply.pop("helpers", 0.0)}
        reply["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(reply), file=answers, flush=True)


def timed_steps(step: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call of `step`, for about `seconds` and at least three times."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_STEPS or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times
