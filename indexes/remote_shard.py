"""A shard on another machine: the reading side of `PageIndex` over HTTP, served there by `shard_server`.

A shard that does not answer, or answers with anything else than what was asked for, is an error: hits that are missing
because a machine is down would look like a shorter list of results.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from colsearcher.indexes import errors
from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.lexical import CorpusCounts
from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.page_index import DEFAULT_RECALL
from colsearcher.indexes.ranking import Ranking
from colsearcher.indexes.records import DocumentRecord, PageEmbedding, QueryEmbedding, SearchResult, StoredPage
from colsearcher.indexes.shard_wire import VERSION, from_json, to_json

# A search of a large shard that is not in memory yet takes a while; a machine that is gone should not take longer.
SECONDS = 120.0


class RemoteShard:
    """An index that another process serves. Any number of threads may use it.

    Raises:
        UserError: the URL is not http://host:port.
        IndexProblem: nothing answers there, or something else does.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise UserError(f"«{url}» is not the address of a shard; write it as http://host:port.")
        self.name = url
        self._host, self._port = parts.hostname, _port(url)
        hello = self._ask("manifest")
        if not isinstance(hello, dict) or hello.get("version") != VERSION:
            raise IndexProblem(f"The shard at {url} is of another version of ColSearcher; install the same one there and here.")
        self.manifest = Manifest.from_rows(hello["manifest"])

    def close(self) -> None:
        """Nothing is held: each question has a connection of its own."""

    def word_counts(self, words: Iterable[str]) -> CorpusCounts:
        """See `PageIndex.word_counts`."""
        return self._ask("word_counts", list(words))

    def search(
        self,
        queries: Sequence[QueryEmbedding],
        k: int = 5,
        *,
        filter: str | None = None,
        ranking: Ranking = "default",
        recall: float = DEFAULT_RECALL,
        corpus: CorpusCounts | None = None,
    ) -> list[SearchResult]:
        """See `PageIndex.search`."""
        return self._ask("search", list(queries), k, filter, ranking, recall, corpus)

    def holds(self, document: str) -> bool:
        """See `PageIndex.holds`."""
        return self._ask("holds", document)

    def page(self, document: str, page: int) -> StoredPage:
        """See `PageIndex.page`."""
        return self._ask("page", document, page)

    def embedding(self, document: str, page: int) -> PageEmbedding:
        """See `PageIndex.embedding`."""
        return self._ask("embedding", document, page)

    def pages(self) -> list[tuple[str, int]]:
        """See `PageIndex.pages`."""
        return self._ask("pages")

    def texts(self) -> list[tuple[str, int, str]]:
        """See `PageIndex.texts`."""
        return self._ask("texts")

    def documents(self) -> list[DocumentRecord]:
        """See `PageIndex.documents`."""
        return self._ask("documents")

    def info(self) -> dict[str, object]:
        """See `PageIndex.info`."""
        return self._ask("info")

    def verify(self) -> list[str]:
        """See `PageIndex.verify`."""
        return self._ask("verify")

    def _ask(self, what: str, *arguments: object) -> Any:
        body = json.dumps(to_json(arguments)).encode()
        connection = http.client.HTTPConnection(self._host, self._port, timeout=SECONDS)
        try:
            connection.request("POST", f"/{what}", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            value = from_json(json.loads(answer.read()))
        except (ValueError, KeyError, TypeError) as error:
            raise IndexProblem(f"What answers at {self.name} is not a shard of ColSearcher ({error}).") from error
        except (OSError, http.client.HTTPException) as error:
            why = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
            raise IndexProblem(
                f"The shard at {self.name} does not answer ({why}); start it there with "
                f"`colsearcher serve-shard --index DIR --port {self._port}`."
            ) from error
        finally:
            connection.close()
        if answer.status == http.client.OK:
            return value
        if not isinstance(value, dict) or "error" not in value:
            raise IndexProblem(f"What answers at {self.name} is not a shard of ColSearcher (status {answer.status}).")
        kind = getattr(errors, str(value.get("kind")), IndexProblem)
        if answer.status == http.client.BAD_REQUEST and isinstance(kind, type) and issubclass(kind, UserError):
            raise kind(value["error"])
        raise IndexProblem(f"The shard at {self.name} failed ({value['error']}); what it wrote on stderr says why.")


def _port(url: str) -> int:
    try:
        port = urlsplit(url).port
    except ValueError:
        port = None
    if port is None:
        raise UserError(f"«{url}» does not say on which port the shard answers; write it as http://host:port.")
    return port
