"""Daemon threads for functions that may block.

Workers are reused and bear a job's name only while it runs. They never hold up the interpreter's exit. A job whose caller
has given up keeps its thread until it returns, but neither its result nor its thread counts any more.
"""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from doubleweave.models.product import PRODUCT

# At most this many jobs run at once; further ones wait. A job started from a worker never waits, so that a nested flow
# cannot stand in its own way.
MAX_JOBS = 2048
IDLE_SECONDS = 10.0
IDLE_NAME = f"{PRODUCT}-worker"

Done = Callable[[Any, BaseException | None], None]


class Job:
    """A function handed to the pool. `done(value, error)` is called on the worker, unless the job was abandoned."""

    __slots__ = ("_pool", "abandoned", "done", "function", "name", "running")

    def __init__(self, pool: "WorkerPool", function: Callable[[], Any], name: str, done: Done) -> None:
        self._pool = pool
        self.function = function
        self.name = name
        self.done = done
        self.running = False
        self.abandoned = False

    def abandon(self) -> None:
        """Give up on the job: it is not started any more, or its outcome is dropped."""
        self._pool.forget(self)


class WorkerPool:
    """Worker threads, made when needed, reused, and ended when idle for a while."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._idle = 0
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()
        self._busy = 0
        self._local = threading.local()

    def submit(self, function: Callable[[], Any], name: str, done: Done) -> Job:
        """Run `function()` on a worker thread named `name` and report its outcome."""
        job = Job(self, function, name, done)
        with self._lock:
            if self._busy >= MAX_JOBS and not getattr(self._local, "is_worker", False):
                self._waiting.append(job)
                return job
            self._busy += 1
            job.running = True
            if self._idle:
                self._idle -= 1
                self._jobs.put(job)
                return job
        self._start_worker(job)
        return job

    def forget(self, job: Job) -> None:
        """Stop counting a job, and start the next waiting one in its place."""
        with self._lock:
            if job.abandoned:
                return
            job.abandoned = True
            if not job.running:
                return
            self._busy -= 1
            successor = self._next_waiting()
        if successor is not None:
            self._start_worker(successor)

    def _next_waiting(self) -> Job | None:
        while self._waiting and self._busy < MAX_JOBS:
            job = self._waiting.popleft()
            if not job.abandoned:
                self._busy += 1
                job.running = True
                return job
        return None

    def _start_worker(self, job: Job) -> None:
        try:
            threading.Thread(target=self._work, args=(job,), name=job.name, daemon=True).start()
        except RuntimeError as error:  # The system has no room for another thread.
            with self._lock:
                job.running = False
                self._busy -= 1
            job.done(None, error)

    def _work(self, first: Job) -> None:
        self._local.is_worker = True
        thread = threading.current_thread()
        job: Job | None = first
        while job is not None:
            thread.name = job.name
            value, error = outcome_of(job.function)
            thread.name = IDLE_NAME
            job = self._finish(job, value, error)
            # Nothing of a job may live on in an idle thread.
            value = error = None
            if job is None:
                job = self._wait()

    def _finish(self, job: Job, value: Any, error: BaseException | None) -> Job | None:
        with self._lock:
            wanted = not job.abandoned
            job.running = False
            if wanted:
                self._busy -= 1
            successor = self._next_waiting()
            if successor is None:
                self._idle += 1
        if wanted:
            job.done(value, error)
        return successor

    def _wait(self) -> Job | None:
        while True:
            try:
                return self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                        return None


def outcome_of(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Call a function and return its value, or the error that it raised."""
    try:
        return function(), None
    except BaseException as error:
        return None, error


POOL = WorkerPool()
if hasattr(os, "register_at_fork"):
    # A forked child has none of its parent's threads.
    os.register_at_fork(after_in_child=POOL._reset)
