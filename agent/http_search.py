"""A search service as the agent's retriever: any HTTP address that answers as Search-R1's retrieval server does.

    POST http://host:port/retrieve      {"queries": ["…", …], "topk": 3, "return_scores": true}
    200  {"result": [[{"document": {"id": "7", "contents": "\\"Title\\"\\nText …"}, "score": 0.93}, …], …]}

one list per query, best first. A document may also be `{"id", "title", "text"}`, of which `id` or `title` is enough, and may
stand there without `{"document": …, "score": …}` around it. Its address is `Title/id#p=1`, or what there is of the two.
"""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from colsearcher.agent.retriever import Passage
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import ColSearcherError, UserError
from colsearcher.retrieval.local_only import NotLocal, is_local_only, require_local
from colsearcher.retrieval.passages import one_line, split_contents, titled

SECONDS = 30.0
_MOST_BYTES = 64_000_000


class SearchProblem(ColSearcherError):
    """A search service does not answer, or not as it should. The rollout ends with `StopReason.RETRIEVER_FAILED`."""


@dataclass(frozen=True)
class HttpSearch:
    """A service at a URL. Each search is a connection of its own; redirects are not followed.

    Attributes:
        seconds: what the service has for each step of an answer.

    Raises:
        UserError: the URL is not `http://host:port/path` (or https), or holds a password, which would end up in traces.
        NotLocal: it is another machine's, and only this one is allowed.
    """

    url: str
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https") or not self.url.isascii() or any(c.isspace() for c in self.url):
            raise UserError(f"«{self.url}» is not the address of a search; write it as http://host:port/path.")
        if parts.username is not None:
            raise UserError(
                f"The address of the search at {host} holds a user name, which would be written into traces; leave it out."
            )
        if is_local_only():
            require_local(host)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See `Retriever`.

        Raises:
            SearchProblem: the service cannot be reached, fails, or answers with something else than passages.
        """
        answer = self._post({"queries": list(queries), "topk": k, "return_scores": True})
        results = answer.get("result") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != len(queries):
            raise self._wrong(f'there is no "result" with {len(queries)} lists in it')
        try:
            return [_distinct([_passage(item, rank) for rank, item in enumerate(found)])[:k] for found in results]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._wrong(f"a document lacks something or has it of the wrong type: {error}") from error

    def _post(self, question: Mapping[str, object]) -> Any:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port or (443 if secure else 80), timeout=self.seconds)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("POST", path, json.dumps(question).encode(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = answer.read(_MOST_BYTES + 1)
        except NotLocal:
            raise
        except TimeoutError as error:
            raise SearchProblem(
                f"The search at {self.url} did not answer within {self.seconds:g} s; see whether it is overloaded."
            ) from error
        except (OSError, http.client.HTTPException) as error:
            why = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
            raise SearchProblem(
                f"The search at {self.url} does not answer ({why}); start it, or give --search another address."
            ) from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise SearchProblem(
                f"The search at {self.url} answered with status {answer.status} ({answer.reason}); see its own log for why."
            )
        if len(body) > _MOST_BYTES:
            raise self._wrong(f"it is longer than {_MOST_BYTES // 1_000_000} MB")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._wrong("it is not JSON") from error

    def _wrong(self, what: str) -> SearchProblem:
        return SearchProblem(
            f"What the search at {self.url} answers is not understood ({what}); it has to answer as Search-R1's server does."
        )


def _passage(item: Mapping[str, Any], rank: int) -> Passage:
    """One result. Where the service gives no score, its order is all there is."""
    document = item.get("document", item)
    contents = document.get("contents")
    title, text = split_contents(contents) if contents is not None else (document.get("title") or "", document["text"])
    name = "/".join(filter(None, (one_line(str(part)) for part in (title, document.get("id")) if part is not None)))
    score = float(item.get("score", -rank))
    if not name:
        raise KeyError("id")
    if not isinstance(text, str) or not math.isfinite(score):
        raise TypeError("text and score are not a text and a number")
    return Passage(Address(name, 1), one_line(titled(title, text)), score)


def _distinct(passages: Sequence[Passage]) -> list[Passage]:
    """The first of each address."""
    first: dict[Address, Passage] = {}
    for passage in passages:
        first.setdefault(passage.address, passage)
    return list(first.values())
