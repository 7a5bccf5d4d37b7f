"""A process for each piece of work: what crashes or hangs a C library costs that piece only."""

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from synthoma.errors import SynthomaError

Job = TypeVar("Job")
Alive = Callable[[], None]

# Told at most so often; a sign of life costs a system call.
_EVERY = 0.5


@dataclass(frozen=True)
class Failure:
    """A piece of work that came to nothing, and why."""

    reason: str


@dataclass
class _Running(Generic[Job]):
    number: int
    process: BaseProcess
    pipe: Connection
    heard: float = field(default_factory=time.monotonic)


def run_isolated(
    work: Callable[[Job, Alive], Any], jobs: Sequence[Job], workers: int, patience_s: float
) -> Iterator[tuple[int, Any]]:
    """Do each job in a process of its own, at most `workers` at a time: (number of the job, result or `Failure`), as they end.

    work: a function of a module, called with the job and a function by which it says that it is alive. A process that ends
    without a result, or is silent for `patience_s` seconds, is a `Failure`; so is a `SynthomaError`. Any other exception
    is a mistake of ours, and is raised here.
    """
    # "forkserver": the caller may hold threads (torch), which a plain fork would copy in the midst of what they do.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    waiting = list(enumerate(jobs))[::-1]
    running: list[_Running[Job]] = []
    try:
        while waiting or running:
            while waiting and len(running) < max(workers, 1):
                number, job = waiting.pop()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_in_process, args=(work, job, theirs), daemon=True)
                process.start()
                theirs.close()
                running.append(_Running(number, process, ours))
            wait([one.pipe for one in running], timeout=1.0)
            for one in list(running):
                outcome = _outcome(one, patience_s)
                if outcome is not None:
                    running.remove(one)
                    _end(one)
                    if isinstance(outcome, BaseException):
                        raise outcome
                    yield one.number, outcome[0]
    finally:
        for one in running:
            _end(one)


def _outcome(one: _Running[Job], patience_s: float) -> tuple[Any] | BaseException | None:
    """What came of a process, as a tuple of one; an exception that is our own mistake; None while it is at work."""
    try:
        while one.pipe.poll():
            what, value = one.pipe.recv()
            one.heard = time.monotonic()
            if what == "result":
                return (value,)
            if what == "failure":
                return (Failure(value),)
            if what == "mistake":
                return RuntimeError(value)
    except (EOFError, OSError):
        one.process.join(5)
        code = one.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return (Failure(f"the process that read it ended unexpectedly ({how})"),)
    if time.monotonic() - one.heard > patience_s:
        return (Failure(f"no progress within {patience_s:g} s; given up"),)
    return None


def _end(one: _Running[Job]) -> None:
    if one.process.is_alive():
        one.process.kill()
    one.process.join(5)
    one.pipe.close()


def _in_process(work: Callable[[Any, Alive], Any], job: Any, pipe: Connection) -> None:
    # Ctrl-C reaches the whole group of processes; the one that started this ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    last = time.monotonic()

    def alive() -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            pipe.send(("alive", None))

    try:
        pipe.send(("result", work(job, alive)))
    except SynthomaError as error:
        pipe.send(("failure", str(error)))
    except MemoryError:
        pipe.send(("failure", "out of memory"))
    except Exception:
        pipe.send(("mistake", traceback.format_exc()))
