"""Answer another machine's questions about an index, for `remote_shard`: POST /NAME with the arguments as JSON.

Reading only, one question at a time (a scan uses all cores anyway). There is no password: whoever reaches the port can read
the index.
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.shard_wire import VERSION, from_json, to_json

# A client that stops in the middle of its question is given up after so long.
SECONDS = 60.0


class ShardServer(ThreadingHTTPServer):
    """Serves an index at an address until `shutdown`; see `serve_forever`.

    Raises:
        UserError: the address is in use or not this machine's.
    """

    daemon_threads = True

    def __init__(self, index: PageIndex, host: str, port: int) -> None:
        self.index = index
        self._turn = threading.Lock()
        self._answers: dict[str, Callable[..., Any]] = {
            "manifest": lambda: {"version": VERSION, "manifest": index.manifest.rows()},
            "word_counts": index.word_counts,
            "search": lambda queries, k, filter, ranking, recall, corpus: index.search(
                queries, k, filter=filter, ranking=ranking, recall=recall, corpus=corpus
            ),
            "holds": index.holds,
            "page": index.page,
            "embedding": index.embedding,
            "pages": index.pages,
            "texts": index.texts,
            "documents": index.documents,
            "info": index.info,
            "verify": index.verify,
        }
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            why = str(getattr(error, "strerror", None) or error).lower()
            raise UserError(f"Nothing can be served at {host}:{port} ({why}); choose another --port or --host.") from None

    def answer(self, name: str, body: bytes) -> tuple[HTTPStatus, bytes]:
        """The status and what to send: the value asked for, or an error and its kind."""
        if name not in self._answers:
            return HTTPStatus.NOT_FOUND, _encoded({"error": f"there is nothing called {name}"})
        try:
            arguments = from_json(json.loads(body))
            with self._turn:
                return HTTPStatus.OK, _encoded(self._answers[name](*arguments))
        except UserError as error:
            return HTTPStatus.BAD_REQUEST, _encoded({"error": str(error), "kind": type(error).__name__})
        except Exception as error:  # noqa: BLE001 - one bad question must not end the server; the asker is told
            traceback.print_exc(file=sys.stderr)
            return HTTPStatus.INTERNAL_SERVER_ERROR, _encoded({"error": f"{type(error).__name__}: {error}"})


def _encoded(value: object) -> bytes:
    return json.dumps(to_json(value)).encode()


class _Handler(BaseHTTPRequestHandler):
    server: ShardServer
    timeout = SECONDS

    def do_POST(self) -> None:
        # A web page can make a browser post anything but this type without being asked whether it may.
        if self.headers.get_content_type() != "application/json":
            self.send_error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, data = self.server.answer(self.path.removeprefix("/"), body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said about questions that were answered."""
