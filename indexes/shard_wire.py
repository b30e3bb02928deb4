"""How shards talk: every value of an index's interface as JSON, and back as it was.

Scalars and lists are themselves; everything else is an object with one key that says what it is: `{"dict": {…}}`,
`{"tuple": […]}`, `{"array": {dtype, shape, base64}}`, or the name of a record. Floats come back bit by bit, so a ranking that
was merged over HTTP is the ranking.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from colsearcher.indexes.lexical import CorpusCounts
from colsearcher.indexes.records import (
    DocumentRecord,
    Hit,
    PageEmbedding,
    Places,
    QueryEmbedding,
    SearchResult,
    StoredPage,
)

VERSION = 1
RECORDS: dict[str, type] = {
    record.__name__: record
    for record in (CorpusCounts, DocumentRecord, Hit, PageEmbedding, Places, QueryEmbedding, SearchResult, StoredPage)
}
_KINDS = "fiub"


def to_json(value: Any) -> Any:
    """A value as what `json.dumps` takes.

    >>> to_json((1, {"a": None}))
    {'tuple': [1, {'dict': {'a': None}}]}

    Raises:
        TypeError: the value is none that shards exchange.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [to_json(item) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": {key: to_json(item) for key, item in value.items()}}
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
        return {"array": {"dtype": value.dtype.str, "shape": list(value.shape), "base64": data}}
    name = type(value).__name__
    if RECORDS.get(name) is not type(value):
        raise TypeError(f"shards do not exchange {name}")
    return {name: {f.name: to_json(getattr(value, f.name)) for f in fields(RECORDS[name])}}


def from_json(value: Any) -> Any:
    """The value that `to_json` was given.

    >>> from_json(to_json((1, {"a": None})))
    (1, {'a': None})

    Raises:
        ValueError: it is not of this format.
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ValueError(f"an object with the keys {sorted(value)} says not what it is")
    ((name, content),) = value.items()
    if name == "tuple":
        return tuple(from_json(item) for item in content)
    if name == "dict":
        return {key: from_json(item) for key, item in content.items()}
    if name == "array":
        dtype = np.dtype(content["dtype"])
        if dtype.kind not in _KINDS:
            raise ValueError(f"an array of {dtype} is none of numbers")
        data = base64.b64decode(content["base64"], validate=True)
        return np.frombuffer(data, dtype).reshape(content["shape"])
    if name not in RECORDS:
        raise ValueError(f"«{name}» is nothing that shards exchange")
    return RECORDS[name](**{key: from_json(item) for key, item in content.items()})
