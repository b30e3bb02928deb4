"""What the agent searches: a page index, a file of passages, or a search service, by one name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from colsearcher.agent.http_search import HttpSearch
from colsearcher.agent.retriever import Passage, Retriever
from colsearcher.agent.viewer import PageViewer, Viewer
from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    from colsearcher.retrieval.searcher import Searcher


@dataclass(frozen=True)
class PageRetriever:
    """A page index as the agent's `Retriever`: a passage is a page's words."""

    searcher: Searcher

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        results = self.searcher.search(queries, k)
        return [
            [Passage(hit.address, self.searcher.index.page(hit.document, hit.page).text, hit.score) for hit in result.hits]
            for result in results
        ]


@dataclass(frozen=True)
class Place:
    """Where a source is, before anything is opened. `where` is a folder, a file or a URL."""

    kind: Literal["index", "passages", "service"]
    where: str

    @classmethod
    def parse(cls, index: Path | None, search: str | None) -> Place:
        """What `--index` and `--search` name.

        Raises:
            UserError: neither or both are given, or what is named is not there.
        """
        if (index is None) == (search is None):
            raise UserError("Name what to search: --index DIR, or --search with a passage file or a URL; one of the two.")
        if search is None:
            return cls("index", str(index))
        if "://" in search:
            HttpSearch(search)
            return cls("service", search)
        if Path(search).is_dir():
            return cls("index", search)
        if not Path(search).is_file():
            raise UserError(
                f"«{search}» is neither an index, a file of passages nor a URL; write a URL as http://host:port/path."
            )
        return cls("passages", search)

    def __str__(self) -> str:
        return f"{self.kind} {self.where}"


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        models: role to name and revision, of all that the source brings along.
        folder: where traces, chats and the calibration of this source are kept.
        weight: how rare a word is in it; 1.0 for all where that is not known.
        searcher: of an index or of passages.
        viewer: shows the pages of an index.
    """

    place: Place
    retriever: Retriever
    models: Mapping[str, str]
    folder: Path
    weight: Callable[[str], float] = lambda word: 1.0
    searcher: Searcher | None = None
    viewer: Viewer | None = None

    @classmethod
    def of(cls, searcher: Searcher) -> Source:
        """An index that is open already."""
        embedder = searcher.embedder
        return cls(
            Place("index", str(searcher.index.folder)),
            PageRetriever(searcher),
            {"embedder": f"{embedder.name}@{embedder.revision[:12]}"},
            searcher.index.folder,
            searcher.index.word_weight,
            searcher,
            PageViewer(searcher),
        )

    @property
    def described(self) -> str:
        """For the line that says what was chosen."""
        embedder = f"embedder {self.searcher.embedder.name} on {self.searcher.embedder.device}, " if self.searcher else ""
        return f"{embedder}{self.place}"

    @property
    def corpus(self) -> str:
        """A digest of what is searched, another one as soon as other pages can be found; "" where that is not known."""
        if self.searcher is None:
            return ""
        index = self.searcher.index
        made = {name: value for name, value in index.manifest.rows().items() if name != "created"}
        # The folder of passages is named by what their file holds.
        held = self.folder.name if self.place.kind == "passages" else [(d.document, d.sha256) for d in index.documents()]
        return hashlib.sha256(json.dumps([made, held], sort_keys=True).encode()).hexdigest()[:12]


@contextmanager
def open_source(place: Place, tell: Callable[[str], None] = lambda text: None) -> Iterator[Source]:
    """Open what a place names. A file of passages is indexed the first time, and kept under the user's data folder.

    Args:
        tell: takes a line where passages have to be indexed.

    Raises:
        UserError: an index without pages, a file without passages.
        ModelProblem: the embedder's weights are missing.
    """
    if place.kind == "service":
        yield Source(place, HttpSearch(place.where), {"retriever": place.where}, _kept(place.where, place.where))
        return
    from colsearcher.indexes.shards import open_index
    from colsearcher.retrieval.searcher import Searcher

    if place.kind == "index":
        with open_index(Path(place.where)) as index:
            index.require_pages()  # before the seconds that loading the model takes
        with Searcher.open(Path(place.where)) as searcher:
            yield Source.of(searcher)
        return
    from colsearcher.retrieval.embedder import load_embedder
    from colsearcher.retrieval.passages import index_passages, read_passages

    read = read_passages(Path(place.where))
    embedder = load_embedder()
    folder = _kept(Path(place.where).name, read.sha256 + embedder.revision)

    def on_progress(done: int, all: int) -> None:
        tell(f"indexing {place.where}: {done:,} of {all:,} passages")

    with index_passages(folder / "index", read.documents, embedder, on_progress) as index:
        opened = Source.of(Searcher(index, embedder))
        yield Source(place, opened.retriever, opened.models, folder, opened.weight, opened.searcher)


def _kept(name: str, key: str) -> Path:
    """The folder of a source that has none of its own."""
    import platformdirs

    readable = re.sub(r"\W+", "-", name).strip("-")[:40]
    folder = f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    return Path(platformdirs.user_data_dir("colsearcher", appauthor=False)) / "sources" / folder
