"""Reading many documents at once: `read_documents` yields pages in a fixed order, whatever hangs, breaks or dies.

The order is that of the sources, and within a document that of its pages: two runs over the same files yield the same
records in the same order. Behind it several processes read ahead by a bounded number of pages, so the pages of one large
scan are shared out like those of many small files, and a slow consumer holds the readers back.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from colsearcher.retrieval.corpus import ReadProblem, Source
from colsearcher.retrieval.page_reader import DocumentInfo, ReadSettings
from colsearcher.retrieval.poppler import require_poppler
from colsearcher.retrieval.workers import ReadRecord, Task, Worker, wait_for

__all__ = ["DocumentInfo", "DocumentReader", "Read", "ReadProblem", "ReadRecord", "ReadSettings", "read_documents"]

Records: TypeAlias = Generator[ReadRecord, None, None]

# Pages in one task: enough that opening the file and the way through the pipe are small beside reading them.
CHUNK = 8
# Tasks that may be started before the first of them is done, for each process: it bounds the pages held in memory.
AHEAD = 4
# So many seconds have to be waited for the first process before others start. One reads text layers faster than most models
# take them, and to start one more costs a processor as much as thirty such pages.
PATIENCE = 2.0


class Read(Protocol):
    """What `read_documents` does, wherever it is done."""

    def __call__(
        self, sources: Sequence[Source], settings: ReadSettings, *, skip: Mapping[str, AbstractSet[int]]
    ) -> Records: ...


def read_documents(
    sources: Sequence[Source],
    settings: ReadSettings | None = None,
    *,
    skip: Mapping[str, AbstractSet[int]] | None = None,
) -> Records:
    """Read documents in processes of their own.

    For each source, in order: its `DocumentInfo`, then for each page, in order, its `Page` or a `ReadProblem`; or a single
    `ReadProblem` (with page None) where the file cannot be opened at all. A page that takes longer than
    `settings.page_seconds`, or whose process dies, is such a problem, and reading goes on with the next page.

    Closing the iterator, or an exception, ends the processes at once. A script that calls this at its top level needs
    `if __name__ == "__main__":`, like all that uses `multiprocessing` with spawn.

    Args:
        sources: what to read, see `corpus.find_sources`.
        settings: how; the defaults of `ReadSettings`.
        skip: pages that are not wanted: document id to page numbers. Their document's `DocumentInfo` still comes.

    Raises:
        MissingExtra: the renderer is poppler and it is not installed.
        ModelProblem: OCR is needed and its weights are not the pinned ones.
        ColSearcherError: the reading processes do not start.
    """
    settings = settings or ReadSettings()
    if settings.renderer == "poppler":
        require_poppler()
    return _Reading(sources, settings, skip or {}, {}, _cores()).run()


class DocumentReader:
    """`read_documents` again and again with the same processes, which take seconds to start. Close it when done.

    Args:
        settings: how to read.
        cores: how many cores the processes may use together.
    """

    def __init__(self, settings: ReadSettings, cores: int) -> None:
        if settings.renderer == "poppler":
            require_poppler()
        self._settings = settings
        self._cores = cores
        self._workers: dict[Worker, _Slot | None] = {}

    def read(self, sources: Sequence[Source], *, skip: Mapping[str, AbstractSet[int]] | None = None) -> Records:
        """See `read_documents`. Only one at a time; it has to be taken to its end for the processes to be kept."""
        yield from _Reading(sources, self._settings, skip or {}, self._workers, self._cores).run(keep=True)

    def close(self) -> None:
        """End the processes."""
        while self._workers:
            self._workers.popitem()[0].end()


@dataclass(eq=False)
class _Slot:
    """A task in the order of the output, and those of its records that have not been handed out.

    `killer` is the page that a process died of once, 0 for opening the document, None so far.
    """

    task: Task
    started: bool = False
    done: bool = False
    killer: int | None = None
    records: deque[ReadRecord] = field(default_factory=deque)


class _Reading:
    def __init__(
        self,
        sources: Sequence[Source],
        settings: ReadSettings,
        skip: Mapping[str, AbstractSet[int]],
        workers: dict[Worker, _Slot | None],
        cores: int,
    ) -> None:
        self._settings = settings
        self._skip = skip
        self._cores = cores
        self._limit = settings.workers or self._cores
        self._coming = iter(sources)
        self._slots: deque[_Slot] = deque()
        self._workers = workers
        self._patience = 0.0 if settings.workers else PATIENCE
        # Seconds that were spent waiting for processes, less those in which nobody wanted what they had read.
        self._waited = 0.0

    def run(self, *, keep: bool = False) -> Records:
        done = False
        try:
            while self._fill():
                self._assign()
                for worker in self._wait():
                    self._take(worker)
                for worker in [worker for worker in self._workers if worker.seconds_left < 0]:
                    self._replace(worker, worker.why_overdue())
                started = time.monotonic()
                yield from self._finished()
                self._waited = max(0.0, self._waited - (time.monotonic() - started))
            done = True
        finally:
            # What has not come to its end leaves processes with work in hand, whose records would come next time.
            while self._workers and not (keep and done):
                self._workers.popitem()[0].end()

    def _wait(self) -> list[Worker]:
        """The workers that have something to say; perhaps none, when it is time to start others."""
        working = any(worker.ready for worker in self._workers)
        started = time.monotonic()
        left = self._patience - self._waited
        told = wait_for(list(self._workers), left if working and left > 0 and len(self._workers) < self._limit else math.inf)
        if working:
            self._waited += time.monotonic() - started
        return told

    def _fill(self) -> bool:
        """Put the next sources in line; False when everything is done."""
        while len(self._slots) < self._ahead:
            source = next(self._coming, None)
            if source is None:
                break
            self._slots.append(_Slot(Task(source)))
        return bool(self._slots)

    @property
    def _ahead(self) -> int:
        return AHEAD * self._limit

    def _assign(self) -> None:
        waiting = [slot for slot, _ in zip(self._slots, range(self._ahead), strict=False) if not slot.started]
        idle = [worker for worker, slot in self._workers.items() if slot is None and worker.ready]
        for worker, slot in zip(idle, waiting, strict=False):
            slot.started = True
            self._workers[worker] = slot
            worker.assign(slot.task)
        starting = sum(not worker.ready for worker in self._workers)
        enough = self._limit if len(self._workers) > 1 or self._waited >= self._patience else 1
        if len(waiting) > len(idle) + starting and len(self._workers) < enough:
            self._workers[Worker(self._settings, max(1, self._cores // self._limit))] = None

    def _take(self, worker: Worker) -> None:
        try:
            record = worker.take()
        except EOFError:
            self._replace(worker, worker.why_dead(), again=True)
            return
        slot = self._workers[worker]
        if record is None or slot is None:
            return
        slot.records.append(record)
        if worker.sent == slot.task.records:
            slot.done = True
            worker.task = self._workers[worker] = None
            if worker.worn:
                del self._workers[worker]
                worker.end()
        if isinstance(record, DocumentInfo):
            self._add_pages(slot, record.pages)

    def _add_pages(self, slot: _Slot, pages: int) -> None:
        source = slot.task.source
        skip = self._skip.get(source.document, frozenset())
        wanted = [number for number in range(1, pages + 1) if number not in skip]
        chunks = [tuple(wanted[start : start + CHUNK]) for start in range(0, len(wanted), CHUNK)]
        at = self._slots.index(slot) + 1
        for position, chunk in enumerate(chunks):
            self._slots.insert(at + position, _Slot(Task(source, chunk)))

    def _replace(self, worker: Worker, reason: str, *, again: bool = False) -> None:
        """Report the page that a dead or overdue process was at; what is left of its task goes back in line.

        With `again` the page itself gets a second try first: what a process died of may have come from the pages before.
        """
        slot = self._workers.pop(worker)
        sent = worker.sent
        worker.end()
        if slot is None:
            return
        source, pages = slot.task.source, slot.task.pages
        page = pages[sent] if pages else None
        if again and slot.killer != (page or 0):
            slot.killer, slot.started, slot.task = page or 0, False, Task(source, pages[sent:])
            return
        slot.records.append(ReadProblem(source.document, page, reason))
        rest = pages[sent + 1 :]
        slot.started, slot.done = not rest, not rest
        if rest:
            slot.task = Task(source, rest)

    def _finished(self) -> Records:
        while self._slots:
            first = self._slots[0]
            while first.records:
                yield first.records.popleft()
            if not first.done:
                return
            self._slots.popleft()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
