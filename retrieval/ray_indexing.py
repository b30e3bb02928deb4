"""Reading and embedding on a Ray cluster; storing here, through the same writer as without one.

The files are opened here, which counts their pages; then tasks of a few pages go through two pools of Ray Data actors: readers
(rendering, OCR) and embedders (one model per GPU, or per CPU core where there are none). What comes back is stored batch by
batch as it arrives, in any order. Files and installed packages have to be the same on all machines, at the same paths.
"""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import PageEmbedding, QueryEmbedding
from colsearcher.retrieval.corpus import ReadProblem, Source
from colsearcher.retrieval.embedder import PageEmbedder, load_embedder
from colsearcher.retrieval.indexing import IndexReport, Progress, Work, add_documents
from colsearcher.retrieval.page import Page
from colsearcher.retrieval.projection import ProjectedEmbedder, Projection
from colsearcher.retrieval.ray_cluster import Cluster, losses_told, ray_cluster
from colsearcher.retrieval.reading import (
    CHUNK,
    DocumentInfo,
    DocumentReader,
    ReadRecord,
    ReadSettings,
    Records,
    read_documents,
)

# Tasks of `CHUNK` pages that are embedded together.
_EMBED_TASKS = 4
# A task whose actor dies (of a lack of memory, say) is tried again so often; then the run ends.
_RETRIES = 3

LoadEmbedder: TypeAlias = Callable[[], PageEmbedder]
Columns: TypeAlias = dict[str, Any]
# (a page without its picture, its vectors), a problem with None, or an error that ends the run.
Result: TypeAlias = tuple[Page | ReadProblem, PageEmbedding | None] | UserError


def loader_of(embedder: PageEmbedder, device: str = "auto") -> LoadEmbedder:
    """How another process gets this embedder: by name, behind the same projection, on a device that it has."""
    if isinstance(embedder, ProjectedEmbedder):
        return functools.partial(_load, embedder.inner.name, device, embedder.projection)
    return functools.partial(_load, embedder.name, device, None)


def wants_gpus(embedder: PageEmbedder, device: str) -> bool:
    """Whether actors should ask for a GPU each: the machines may have one where this one has none."""
    return embedder.picture_pixels > 0 and device != "cpu"


def add_documents_on_ray(
    index: PageIndex,
    embedder: PageEmbedder,
    load: LoadEmbedder,
    work: Work,
    settings: ReadSettings,
    *,
    address: str = "local",
    gpus: bool = True,
    on_start: Callable[[Cluster], None] = lambda cluster: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> IndexReport:
    """`indexing.add_documents` with the reading and embedding done by a Ray cluster; the same documents, pages and problems.

    Vectors are the same up to the rounding of the model, which depends a little on what is embedded together.

    Args:
        embedder: the one that made the index.
        load: gives each actor the same embedder; see `loader_of`.
        address: of the cluster; see `ray_cluster.ray_cluster`.
        gpus: whether embedders ask for a GPU each, where the cluster has some; see `wants_gpus`.
        on_start: told what the cluster has, before the work begins.
        on_progress: told after each page that came back.

    Raises:
        MissingExtra: Ray is not installed.
        UserError: no cluster answers at the address, or its machines lack the embedder or the renderer.
        ClusterProblem: its actors die however often they are started again.
    """
    arrived = _Arrived(embedder)
    if not work.to_read:
        return add_documents(index, arrived, work, settings, on_progress=on_progress)
    with ray_cluster(address, gpus=gpus) as cluster:
        on_start(cluster)
        read = functools.partial(_read, arrived=arrived, load=load, cluster=cluster)
        report = add_documents(index, arrived, work, settings, on_progress=on_progress, read=read)
    order = {source.document: place for place, source in enumerate(work.to_read)}
    report.problems.sort(key=lambda problem: (order.get(problem.document, -1), problem.page or 0))
    return report


class _Arrived:
    """A `PageEmbedder` that gives the vectors which came back with the pages."""

    def __init__(self, embedder: PageEmbedder) -> None:
        self.name = embedder.name
        self.revision = embedder.revision
        self.dim = embedder.dim
        self.block_rows = embedder.block_rows
        self.picture_pixels = embedder.picture_pixels
        self.device = "a Ray cluster"
        self._embeddings: dict[tuple[str, int], PageEmbedding] = {}

    def put(self, page: Page, embedding: PageEmbedding) -> None:
        self._embeddings[page.document, page.number] = embedding

    def embed_pages(self, pages: Sequence[Page]) -> list[PageEmbedding]:
        return [self._embeddings.pop((page.document, page.number)) for page in pages]

    def embed_queries(self, texts: Sequence[str]) -> list[QueryEmbedding]:
        raise NotImplementedError("pages come from the cluster; nobody asks it")


class _Everything(frozenset[int]):
    """All pages, for opening documents and reading none."""

    def __contains__(self, number: object) -> bool:
        return True


def _read(
    sources: Sequence[Source],
    settings: ReadSettings,
    *,
    skip: Mapping[str, AbstractSet[int]],
    arrived: _Arrived,
    load: LoadEmbedder,
    cluster: Cluster,
) -> Records:
    """As `read_documents`, but all documents first and then pages in any order; their embeddings go to `arrived`."""
    by_name = {source.document: source for source in sources}
    tasks = []
    for record in read_documents(sources, settings, skip=dict.fromkeys(by_name, _Everything())):
        yield record
        if isinstance(record, DocumentInfo):
            known = skip.get(record.document, frozenset())
            wanted = [number for number in range(1, record.pages + 1) if number not in known]
            chunks = [frozenset(wanted[start : start + CHUNK]) for start in range(0, len(wanted), CHUNK)]
            tasks += [pickle.dumps((by_name[record.document], record.pages, chunk)) for chunk in chunks]
    unopened = set()
    for packed in _results(tasks, settings, load, cluster) if tasks else ():
        for result in pickle.loads(packed):
            if isinstance(result, UserError):
                raise result
            record, embedding = result
            if isinstance(record, Page):
                arrived.put(record, embedding)
            elif record.page is None:
                # Each of its tasks says so.
                if record.document in unopened:
                    continue
                unopened.add(record.document)
            yield record


def _results(tasks: list[bytes], settings: ReadSettings, load: LoadEmbedder, cluster: Cluster) -> Any:
    """Packed lists of `Result`, one a task, as they arrive."""
    import ray.data
    from ray.util.annotations import RayDeprecationWarning

    # Without GPUs each core has a reader and an embedder, and the system shares it between them as there is work.
    cpus = 1.0 if cluster.gpus else 0.5
    readers = ray.data.ActorPoolStrategy(size=min(cluster.cpus, len(tasks)))
    embedders = ray.data.ActorPoolStrategy(size=min(cluster.gpus or cluster.cpus, -(-len(tasks) // _EMBED_TASKS)))
    dataset = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=len(tasks))
    with warnings.catch_warnings():
        # Ray means to replace `ray_remote_args_fn`, and has nothing else yet that bounds how often a task is tried again.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        read = dataset.map_batches(
            _Reader,
            fn_constructor_args=(replace(settings, workers=1),),
            batch_size=1,
            compute=readers,
            num_cpus=cpus,
            ray_remote_args_fn=_retries,
        )
        done = read.map_batches(
            _Embedder,
            fn_constructor_args=(load,),
            batch_size=_EMBED_TASKS,
            compute=embedders,
            num_cpus=0 if cluster.gpus else cpus,
            num_gpus=1 if cluster.gpus else 0,
            ray_remote_args_fn=_retries,
        )
    with losses_told():
        for row in done.iter_rows():
            yield row["results"]


def _retries() -> dict[str, int]:
    return {"max_restarts": -1, "max_task_retries": _RETRIES}


class _Reader:
    """An actor that reads the pages of tasks, in a process of its own that may hang or die."""

    def __init__(self, settings: ReadSettings) -> None:
        self._settings = settings
        self._reader: DocumentReader | None = None

    def __call__(self, rows: Columns) -> Columns:
        return _column("records", [self._records(*pickle.loads(task)) for task in rows["task"]])

    def _records(self, source: Source, pages: int, wanted: frozenset[int]) -> list[ReadRecord] | UserError:
        rest = frozenset(range(1, pages + 1)) - wanted
        try:
            if self._reader is None:
                self._reader = DocumentReader(self._settings, cores=1)
            found = [*self._reader.read([source], skip={source.document: rest})]
        except UserError as error:
            return error
        return [record for record in found if not isinstance(record, DocumentInfo) and _is_wanted(record, wanted)]


class _Embedder:
    """An actor with a model."""

    def __init__(self, load: LoadEmbedder) -> None:
        self._load = load
        self._embedder: PageEmbedder | None = None

    def __call__(self, rows: Columns) -> Columns:
        tasks = [pickle.loads(records) for records in rows["records"]]
        pages = [record for records in tasks if isinstance(records, list) for record in records if isinstance(record, Page)]
        try:
            if self._embedder is None:
                self._embedder = self._load()
            embeddings = iter(self._embedder.embed_pages(pages)) if pages else iter(())
        except UserError as error:
            return _column("results", [[error]] * len(tasks))
        results: list[list[Result]] = []
        for records in tasks:
            if isinstance(records, UserError):
                results.append([records])
                continue
            results.append(
                [(replace(r, picture=None), next(embeddings)) if isinstance(r, Page) else (r, None) for r in records]
            )
        return _column("results", results)


def _is_wanted(record: Page | ReadProblem, wanted: frozenset[int]) -> bool:
    number = record.number if isinstance(record, Page) else record.page
    return number is None or number in wanted


def _column(name: str, values: Sequence[object]) -> Columns:
    packed = np.empty(len(values), dtype=object)
    packed[:] = [pickle.dumps(value) for value in values]
    return {name: packed}


def _load(name: str, device: str, projection: Projection | None) -> PageEmbedder:
    embedder = load_embedder(name, device=device)
    return ProjectedEmbedder(embedder, projection) if projection else embedder
