"""Engines behind a socket: each turn has a connection and a thread that reads its events."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue

from colsearcher.agent.engine import EngineProblem, Turn
from colsearcher.agent.http_client import EventStream, HttpClient
from colsearcher.agent.served_engine import Arrival, ServedEngine, Stream
from colsearcher.indexes.errors import ColSearcherError


class HttpStream(Stream):
    """A turn that runs on a server; a thread of its own reads the events."""

    def __init__(self, turn: Turn, events: EventStream, arrived: SimpleQueue[Stream]) -> None:
        super().__init__(turn)
        self._events = events
        self._arrived = arrived

    def begin(self, arrivals: Iterator[Arrival]) -> HttpStream:
        threading.Thread(target=self._read, args=(arrivals,), daemon=True).start()
        return self

    def call_off(self) -> None:
        self._events.cut()

    def _read(self, arrivals: Iterator[Arrival]) -> None:
        with self._events:
            try:
                for come in arrivals:
                    self._put(come)
                    if come.stop or come.problem:
                        return
            except EngineProblem as problem:
                self._put(Arrival(problem=problem))
            except ColSearcherError as problem:  # a connection that this process does not allow
                self._put(Arrival(problem=EngineProblem(str(problem))))
            else:
                if not self._events.was_cut:
                    self._put(Arrival(problem=EngineProblem("The server ended an answer without saying why.")))

    def _put(self, come: Arrival) -> None:
        self.arrivals.append(come)
        self._arrived.put(self)


class HttpEngine(ServedEngine):
    """An engine behind a socket: each turn has a connection."""

    def __init__(self, client: HttpClient, name: str, revision: str, context: int) -> None:
        super().__init__(name, revision, context)
        self.client = client
        self._arrived: SimpleQueue[Stream] = SimpleQueue()

    def _wait(self, seconds: float) -> Iterable[Stream]:
        try:
            streams = {self._arrived.get(timeout=seconds)}
        except Empty:
            return ()
        while not self._arrived.empty():
            streams.add(self._arrived.get())
        return streams
