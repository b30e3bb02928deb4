"""Requests to a model server: JSON in, JSON or a stream of JSON events out, each fault one sentence.

Nothing is tried again here and no redirect is followed: a key goes to the host that was named and to no other.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from colsearcher.agent.engine import EngineProblem
from colsearcher.indexes.errors import UserError

CONNECT_S = 20.0
# A server that is busy with other requests may say nothing about this one for long.
SILENCE_S = 600.0


class ServerProblem(EngineProblem):
    """The server refused, failed or went away.

    Attributes:
        status: of its answer; None where there was none.
    """

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class HttpClient:
    """One server.

    Args:
        url: `http://host:port` or `https://host/v1`; paths are added to it.
        key: sent as a bearer token; it is never part of a message.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise UserError(f"«{url}» is no address of a server; write it as http://host:port or https://host/v1.")
        self.url = url.rstrip("/")
        self.host = parts.hostname
        self._port = parts.port
        self._https = parts.scheme == "https"
        self._path = parts.path.rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def get(self, path: str) -> Any:
        """The JSON at a path.

        Raises:
            ServerProblem: there is none.
        """
        return self._json(self.text(path))

    def text(self, path: str, body: Mapping[str, Any] | None = None) -> str:
        """What is said at a path, to a body where one is given."""
        with EventStream(self, "GET" if body is None else "POST", path, body) as answer:
            return answer.read()

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._json(self.text(path, body))

    def events(self, path: str, body: Mapping[str, Any]) -> EventStream:
        """Server-sent events; nothing is sent before they are iterated over."""
        return EventStream(self, "POST", path, body)

    def connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        return kind(self.host, self._port, timeout=CONNECT_S)

    def send(self, connection: http.client.HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None) -> None:
        content = None if body is None else json.dumps(body)
        connection.request(method, self._path + path, content, self._headers)

    def failed(self, problem: Exception) -> ServerProblem:
        said = str(problem) or type(problem).__name__
        return ServerProblem(f"The connection to {self.url} failed: {said}.")

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as problem:
            raise ServerProblem(f"{self.url} did not answer with JSON.") from problem


class EventStream:
    """One request, sent when it is read or iterated over. Leaving the `with` frees the connection; `cut` may be called from
    another thread, and the iteration then ends."""

    def __init__(self, client: HttpClient, method: str, path: str, body: Mapping[str, Any] | None) -> None:
        self._client = client
        self._request = method, path, body
        self._connection = client.connect()
        self._socket: socket.socket | None = None
        self._answered: http.client.HTTPResponse | None = None
        self._lock = threading.Lock()
        self.was_cut = False

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        if self._answered is not None:
            self._answered.close()

    def read(self) -> str:
        """The whole answer.

        Raises:
            ServerProblem: there is none, or its status is not 200.
        """
        try:
            return self._answer().read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as problem:
            raise self._client.failed(problem) from problem

    def __iter__(self) -> Iterator[Any]:
        """The events' data.

        Raises:
            ServerProblem: the server refused, sent an error, or the stream broke off.
        """
        try:
            answer = self._answer()
            for line in answer:
                if not line.startswith(b"data:"):
                    continue
                data = line[len(b"data:") :].strip()
                if data == b"[DONE]":
                    return
                event = json.loads(data)
                if isinstance(event, dict) and event.get("error"):
                    raise ServerProblem(f"{self._client.url} failed: {_said(event)}")
                yield event
        except (OSError, ValueError, http.client.HTTPException) as problem:
            if not self.was_cut:
                raise self._client.failed(problem) from problem
        else:
            if not self.was_cut:
                raise ServerProblem(f"{self._client.url} broke off in the middle of an answer.")

    def cut(self) -> None:
        with self._lock:
            if not self.was_cut and self._socket is not None:
                with contextlib.suppress(OSError):  # closed already
                    self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads; the server sees it and stops
            self.was_cut = True

    def _answer(self) -> http.client.HTTPResponse:
        self._connection.connect()
        with self._lock:
            self._socket = self._connection.sock
        if self.was_cut:
            raise ConnectionAbortedError("cut before it was asked")
        self._socket.settimeout(SILENCE_S)
        self._client.send(self._connection, *self._request)
        answer = self._answered = self._connection.getresponse()
        if answer.status != http.client.OK:
            raise ServerProblem(self._refusal(answer), answer.status)
        return answer

    def _refusal(self, answer: http.client.HTTPResponse) -> str:
        text = answer.read().decode("utf-8", "replace")
        try:
            said = _said(json.loads(text))
        except ValueError:
            said = text
        said = " ".join(said.split())[:300].rstrip(".") or answer.reason
        return f"{self._client.url}{self._request[1]} answered {answer.status}: {said}."


def _said(answer: Any) -> str:
    """The message of an error as OpenAI's API and its relatives send it."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(error.get("message") or error.get("detail") or error) if isinstance(error, dict) else str(error)
