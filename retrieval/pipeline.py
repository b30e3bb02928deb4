"""Stages that overlap: what is read is embedded while more is read, and stored while more is embedded; order is kept."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(items: Generator[Item], count: int) -> Iterator[Item]:
    """The items of a generator, taken from it in a thread of its own, up to `count` of them ahead.

    An exception of the generator comes where its item would. Closing this closes the generator, in its thread.
    """
    waiting: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(count)
    stopped = threading.Event()

    def put(item: Item | None, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
                return
            except queue.Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
            put(None, StopIteration())
        except BaseException as error:  # noqa: BLE001 - raised again where the item would come
            put(None, error)
        finally:
            items.close()

    thread = threading.Thread(target=run, name="colsearcher-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()


class InOrder(Generic[Item, Result]):
    """Work given out to threads, and its results given to a function one after the other, in the order of the work.

    Leaving the `with` normally waits for everything; leaving it by an exception drops work that has not begun.

    Args:
        work: done in `workers` threads.
        finish: called with each result in a thread of its own, never twice at once.

    Attributes:
        begun: some work has been given out.
    """

    def __init__(self, work: Callable[[Item], Result], finish: Callable[[Item, Result], None], workers: int) -> None:
        self._work = work
        self._finish = finish
        self._limit = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="colsearcher-work")
        self._last = ThreadPoolExecutor(1, thread_name_prefix="colsearcher-finish")
        self._given: deque[Future[None]] = deque()
        self.begun = False
        self._broken = False

    def before(self, action: Callable[[], None]) -> None:
        """Do something in the thread that finishes, before the first result that has not come to it."""
        self._given.append(self._last.submit(action))

    def give(self, item: Item) -> None:
        """Give out one piece of work; waits while more than `workers` pieces are on their way.

        Raises:
            BaseException: what an earlier piece raised.
        """
        while len(self._given) > self._limit:
            self._given.popleft().result()
        self.begun = True
        working = self._pool.submit(self._work, item)
        self._given.append(self._last.submit(self._finished, item, working))

    def wait(self) -> None:
        """Until all that was given is finished."""
        while self._given:
            self._given.popleft().result()

    def _finished(self, item: Item, working: Future[Result]) -> None:
        if self._broken:
            return
        try:
            self._finish(item, working.result())
        except BaseException:
            # What comes after a piece that failed is not finished: results have no gaps.
            self._broken = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._last.shutdown(cancel_futures=True)
