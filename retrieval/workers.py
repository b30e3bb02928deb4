"""Reading processes: each opens files and reads pages on its own, and may hang or die without harm to the others.

A process is given one task at a time and sends what comes of it through a pipe. The pipe is all the queue there is: a
process whose results nobody takes soon waits.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TypeAlias

from colsearcher.indexes.errors import ColSearcherError, FileProblem, UserError
from colsearcher.retrieval.corpus import ReadProblem, Source
from colsearcher.retrieval.local_only import is_local_only, keep_local
from colsearcher.retrieval.page import Page
from colsearcher.retrieval.page_reader import DocumentInfo, PageReader, ReadSettings

START_SECONDS = 120.0
# OCR takes about 20 MB more (and reserves 100) with every page; after so many a process is replaced.
OCR_PAGES = 16

ReadRecord: TypeAlias = DocumentInfo | Page | ReadProblem


@dataclass(frozen=True)
class Task:
    """Pages of a document to read, in order; without pages the task is to open the document and count them.

    It yields one record a page (a `Page` or a `ReadProblem`), or one for the document (`DocumentInfo` or `ReadProblem`).
    """

    source: Source
    pages: tuple[int, ...] = ()

    @property
    def records(self) -> int:
        return max(1, len(self.pages))


class Worker:
    """A reading process as its owner sees it.

    Attributes:
        task: what it is at, None while it is idle or starting.
        sent: how many of the task's records have been taken.
        ocr_pages: how many pages the process has given to OCR so far.
    """

    def __init__(self, settings: ReadSettings, threads: int) -> None:
        self._settings = settings
        self.task: Task | None = None
        self.sent = 0
        self.ocr_pages = 0
        self.ready = False
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, settings, threads), name="colsearcher-reader", daemon=True)
        with _interrupts_blocked():
            self._process.start()
        theirs.close()
        self._since = time.monotonic()

    def assign(self, task: Task) -> None:
        """Give an idle process its next task. A process that has died meanwhile shows it at the next `take`."""
        self.task, self.sent = task, 0
        self._since = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(task)

    def take(self) -> ReadRecord | None:
        """What the process has sent; None for the sign that it is ready. Call it when `connection` is readable.

        Raises:
            EOFError: the process has died.
            UserError: no page can be read with these settings.
        """
        try:
            message = self.connection.recv()
        except (ConnectionResetError, BrokenPipeError) as error:
            raise EOFError from error
        self._since = time.monotonic()
        if isinstance(message, UserError):
            raise message
        if message is None:
            self.ready = True
            return None
        self.sent += 1
        self.ocr_pages += isinstance(message, Page) and message.ocr_reason is not None
        return message

    @property
    def worn(self) -> bool:
        """It has used OCR so much that a new process is better: OCR keeps memory for every new shape of line that it meets."""
        return self.ocr_pages >= OCR_PAGES

    @property
    def seconds_left(self) -> float:
        """Until the record that it is working on is overdue, negative after that; endless while it is idle."""
        if self.ready and self.task is None:
            return float("inf")
        limit = self._settings.page_seconds if self.ready else START_SECONDS
        return self._since + limit - time.monotonic()

    def why_dead(self) -> str:
        """One sentence on how a process that has died ended.

        Raises:
            ColSearcherError: it never started, so another one would not either.
        """
        self._process.join()
        code = self._process.exitcode
        if not self.ready:
            raise ColSearcherError(f"A reading process could not start (exit code {code}); its output says why.")
        how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
        if how == "SIGKILL":
            return "The reading process was killed, which systems do when memory runs out."
        return f"The reading process crashed, or needed more than {self._settings.worker_bytes >> 20} MiB ({how})."

    def why_overdue(self) -> str:
        """One sentence on a process with no `seconds_left`.

        Raises:
            ColSearcherError: it has not even started.
        """
        if not self.ready:
            raise ColSearcherError(f"A reading process did not start within {START_SECONDS:g} seconds.")
        return f"It took longer than {self._settings.page_seconds:g} seconds and was given up."

    def end(self) -> None:
        """End the process, and what it has started, at once."""
        if self._process.is_alive():
            if self.ready and self._process.pid is not None and sys.platform != "win32":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
        self._process.join()
        self._process.close()
        self.connection.close()


def wait_for(workers: list[Worker], seconds: float = float("inf")) -> list[Worker]:
    """The workers that have sent something or have died, after waiting until there is one, one is overdue or time is up."""
    timeout = max(0.0, min(seconds, min((worker.seconds_left for worker in workers), default=0.0)))
    readable = set(wait([worker.connection for worker in workers], None if timeout == float("inf") else timeout))
    return [worker for worker in workers if worker.connection in readable]


def serve(connection: Connection, settings: ReadSettings, threads: int) -> None:
    """The process: take tasks and send records until the owner goes away.

    An error that is no `FileProblem` ends the process with a traceback; its owner reports the page and starts another.
    """
    if is_local_only():
        keep_local()
    if sys.platform != "win32":
        # A group of its own: Ctrl-C at the terminal reaches the owner alone, and the renderer's processes end with it.
        os.setpgid(0, 0)
        _limit_memory(settings.worker_bytes)
    # While pdfium is lost in a page nobody reads the pipe that tells of the owner's end.
    threading.Thread(target=_end_with_owner, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), PageReader(settings, threads) as reader:
        connection.send(None)
        while True:
            for record in _records(reader, connection.recv()):
                connection.send(record)


def _records(reader: PageReader, task: Task) -> Iterator[ReadRecord | UserError]:
    for number in task.pages or (None,):
        try:
            yield reader.info(task.source) if number is None else reader.page(task.source, number)
        except FileProblem as problem:
            yield ReadProblem(task.source.document, number, str(problem))
        except UserError as error:
            yield error


def _limit_memory(limit: int) -> None:
    # There is no such module on Windows.
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _end_with_owner() -> None:
    owner = multiprocessing.parent_process()
    if owner is not None:
        owner.join()
        os._exit(1)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process started inside does not die of a Ctrl-C before it has left the terminal's group."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
