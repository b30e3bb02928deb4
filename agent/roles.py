"""Which role uses which model, and where it comes from: told before anything starts where only this machine is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from colsearcher.agent.source import Place
from colsearcher.retrieval.local_only import is_local_only


def tell_roles(
    tell: Callable[[str], None],
    *,
    policy: str = "",
    engine: str = "transformers",
    place: Place | None = None,
    embedder: str = "",
    ocr: str = "",
) -> None:
    """Say which models a command is about to load. Says nothing unless only this machine is allowed.

    Args:
        policy, engine: by the names that `load_engine` takes; policy is "" for none.
        place: what is searched; its index names the embedder.
        embedder: by name, where there is no place.
        ocr: when words are read off pictures: auto, always or never; "" where no page is read.
    """
    if not is_local_only():
        return
    rows = []
    if policy:
        rows.append(("policy", engine if engine.startswith("openai:") else f"{_policy(policy)}, run by {engine}"))
    if place is not None and place.kind != "service":
        embedder = _embedder_of(place)
    if embedder:
        rows.append(("embedder", _model(embedder, {"minilm": "all-MiniLM-L6-v2, in an installed package"})))
    if ocr:
        rows.append(("OCR", "none" if ocr == "never" else f"PP-OCRv6 small, in an installed package ({ocr})"))
    if place is not None:
        rows.append(("retriever", str(place)))
    tell("only this machine: a connection to any other one is an error")
    for role, what in rows:
        tell(f"  {role:<10}{what}")


def _policy(name: str) -> str:
    from colsearcher.agent.embedded_policy import EMBEDDED

    return _model(name, {known: f"{pinned.title}, in an installed package" for known, pinned in EMBEDDED.items()})


def _model(name: str, known: dict[str, str]) -> str:
    if name in known:
        return known[name]
    return (
        f"{name}, a folder" if Path(name.partition("@")[0].partition("?")[0]).is_dir() else f"{name}, from the local hub cache"
    )


def _embedder_of(place: Place) -> str:
    if place.kind == "passages":
        from colsearcher.retrieval.embedder import DEFAULT_EMBEDDER

        return DEFAULT_EMBEDDER
    from colsearcher.indexes.shards import open_index

    with open_index(Path(place.where)) as index:
        return index.manifest.embedder
