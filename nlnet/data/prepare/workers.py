"""Work on many files in processes that may crash or hang on one of them: that file is named, and the others go on."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

# As the workers of the loader start. They touch nothing that the program has open.
_CONTEXT: Any = get_context("fork" if sys.platform.startswith("linux") else "spawn")


@dataclass(frozen=True)
class Failure:
    """Why there is no result: the worker crashed, or took too long."""

    reason: str


class _Worker:
    """One process, and the item it is at."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(function, theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv()  # until it is there: the time limit is for the work
        self.item: Any = None
        self.deadline = 0.0

    def end(self) -> int | None:
        """Ends the process whatever it is doing -> its exit code."""
        self.pipe.close()
        self.process.kill()
        self.process.join()
        code: int | None = self.process.exitcode
        return code


def each(
    function: Callable[[Item], Result], items: Iterable[Item], *, processes: int, time_limit_s: float
) -> Iterator[tuple[Item, Result | Failure]]:
    """``function`` of each item, in the order in which they get done; only as many are taken as are at work.

    Args:
        function: of a module, so that processes can import it. An exception in it ends all, and is raised here.
        time_limit_s: seconds for one item; then its process is killed.
    """
    queue = iter(items)
    idle: list[_Worker] = []
    busy: dict[Any, _Worker] = {}
    ended = False
    try:
        while True:
            while not ended and len(busy) < processes:
                try:
                    item = next(queue)
                except StopIteration:
                    ended = True
                    break
                worker = idle.pop() if idle else _Worker(function)
                worker.item, worker.deadline = item, time.monotonic() + time_limit_s
                worker.pipe.send(item)
                busy[worker.pipe] = worker
            if not busy:
                return
            patience = min(worker.deadline for worker in busy.values()) - time.monotonic()
            for pipe in wait(list(busy), timeout=max(0.0, patience)):
                worker = busy.pop(pipe)
                answer = _answer(worker)
                if not isinstance(answer, Failure):
                    idle.append(worker)
                yield worker.item, answer
            for worker in [worker for worker in busy.values() if worker.deadline <= time.monotonic()]:
                del busy[worker.pipe]
                worker.end()
                yield worker.item, Failure(f"no answer within {time_limit_s:g} s")
    finally:
        for worker in (*idle, *busy.values()):
            worker.end()


def _answer(worker: _Worker) -> Any:
    try:
        answer, error = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(10)
        return Failure(f"the decoder crashed (exit code {worker.end()})")
    if error is not None:
        raise error
    return answer


def _serve(function: Callable[[Any], Any], pipe: Any, parent: int) -> None:
    """A worker: answers until the program that asks, of that process number, is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process
    torch.set_num_threads(1)
    pipe.send("ready")
    while True:
        # Workers forked later hold the other end too, so that its closing may not be seen.
        while not pipe.poll(1):
            if os.getppid() != parent:
                return
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((function(item), None))
        except Exception as error:
            pipe.send((None, error))
