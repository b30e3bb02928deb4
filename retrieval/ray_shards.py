"""Indexing into several shards at once on a Ray cluster: one actor a shard, which reads, embeds and stores its documents.

For corpora where one writer, or one machine in the middle, is what everything waits for. A document belongs to a shard by its
id, so a second run sends it to the same one and does only what is missing. Each actor does what `colsearcher index add` does
without a cluster; the folder has to be the same for all machines, at the same path. `colsearcher.indexes.shards` searches it.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.manifest import PROJECTION_FILE
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.shard_list import is_sharded, read_shards, shard_of, write_shards
from colsearcher.retrieval.corpus import ReadProblem, Sources
from colsearcher.retrieval.embedder import PageEmbedder
from colsearcher.retrieval.indexing import IndexReport, Progress, add_documents, missing_work
from colsearcher.retrieval.ray_cluster import Cluster, losses_told, ray_cluster
from colsearcher.retrieval.ray_indexing import LoadEmbedder
from colsearcher.retrieval.reading import ReadSettings

# Seconds between two looks at how far the shards are.
_LOOK = 0.5

OpenShard = Callable[[Path, PageEmbedder], PageIndex]


@dataclass(frozen=True)
class ShardJob:
    """What every shard's actor has to know.

    Attributes:
        open: opens the shard at a folder, or makes it, for an embedder.
        load: the embedder.
        settings: how to read.
        retry: read pages again that were stored with a problem.
    """

    open: OpenShard
    load: LoadEmbedder
    settings: ReadSettings
    retry: bool = False


def require_shards(folder: Path, shards: int) -> list[str]:
    """The names of the shards to write, of a folder that has them or will.

    Raises:
        UserError: the number is below 1.
        IndexProblem: the folder holds an index of one piece, another number of shards, or some on other machines.
    """
    if shards < 1:
        raise UserError(f"--shards is {shards}; ask for at least one.")
    names = [f"shard-{i}" for i in range(shards)]
    if not is_sharded(folder):
        if PageIndex.exists(folder):
            raise IndexProblem(f"The index at {folder} is of one piece; leave --shards out, or name another folder.")
        return names
    found = read_shards(folder)
    if away := [name for name in found if "://" in name]:
        raise IndexProblem(f"Shard {away[0]} of {folder} is on another machine; add documents to it there.")
    if len(found) != shards:
        raise IndexProblem(f"{folder} holds {len(found)} shards, not {shards}; use --shards {len(found)}.")
    return found


def add_documents_to_shards(
    folder: Path,
    sources: Sources,
    job: ShardJob,
    shards: int,
    *,
    address: str = "local",
    gpus: bool = True,
    on_start: Callable[[Cluster], None] = lambda cluster: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> IndexReport:
    """Index the sources into the shards of a folder, made if there are none; the report is that of all shards together.

    Args:
        folder: of the shards.
        sources: all documents; each goes to its shard.
        job: what the actors do.
        shards: how many; more than there are GPUs, or CPUs, share those.
        address: of the cluster; see `ray_cluster.ray_cluster`.
        gpus: whether actors share its GPUs, where it has some; see `ray_indexing.wants_gpus`.
        on_start: told what the cluster has, before the work begins.
        on_progress: told a few times a second how far all shards are.

    Raises:
        MissingExtra: Ray is not installed.
        UserError: see `require_shards`; or a shard cannot be opened, is being written, or its machine lacks the embedder.
    """
    names = require_shards(folder, shards)
    order = {source.document: place for place, source in enumerate(sources)}
    parts: list[list[Any]] = [[] for _ in names]
    for source in sources:
        parts[shard_of(source.document, shards)].append(source)
    with ray_cluster(address, gpus=gpus) as cluster:
        on_start(cluster)
        if not is_sharded(folder):
            write_shards(folder, names)
        places = [(folder / name).absolute() for name in names]
        with losses_told():
            found = _run(places, [Sources(tuple(part)) for part in parts], job, cluster, on_progress)
    projection = folder / names[0] / PROJECTION_FILE
    if projection.is_file() and not (folder / PROJECTION_FILE).is_file():
        shutil.copyfile(projection, folder / PROJECTION_FILE)
    report = functools.reduce(_together, found)
    report.problems = [*sources.problems, *report.problems]
    report.problems.sort(key=lambda problem: (order.get(problem.document, -1), problem.page or 0))
    report.documents_recovered.sort(key=lambda name: order[name])
    report.files_ignored = sources.ignored
    return report


def _run(
    places: list[Path], parts: list[Sources], job: ShardJob, cluster: Cluster, on_progress: Callable[[Progress], None]
) -> list[IndexReport]:
    import ray

    # A share of a GPU, or of the CPUs, each, so that all run at once; their reading processes share the machine's cores.
    cores = max(1, cluster.cpus // len(places))
    job = replace(job, settings=replace(job.settings, workers=job.settings.workers or cores))
    gpus = min(1.0, cluster.gpus / len(places))
    actor = ray.remote(_Shard).options(num_cpus=min(1.0, cluster.cpus / len(places)), num_gpus=gpus, max_concurrency=2)
    actors: list[Any] = [actor.remote(job) for _ in places]
    try:
        running = [one.add.remote(place, part) for one, place, part in zip(actors, places, parts, strict=True)]
        waiting = list(running)
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_LOOK)
            for outcome in ray.get(done):
                if isinstance(outcome, UserError):
                    raise outcome
            on_progress(_sum([progress for progress in ray.get([one.progress.remote() for one in actors]) if progress]))
        return ray.get(running)
    finally:
        for one in actors:
            ray.kill(one)


class _Shard:
    """An actor that writes one shard. `add` and `progress` run in a thread each."""

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._progress: Progress | None = None

    def add(self, folder: Path, sources: Sources) -> IndexReport | UserError:
        """Index documents; an error of the user's comes as the result."""
        try:
            embedder = self._job.load()
            with self._job.open(folder, embedder) as index, index.writing():
                work = missing_work(index, sources, retry=self._job.retry)
                return add_documents(index, embedder, work, self._job.settings, on_progress=self._note)
        except UserError as error:
            return error

    def progress(self) -> Progress | None:
        """How far it is, None before the first page."""
        return self._progress

    def _note(self, progress: Progress) -> None:
        self._progress = progress


def _sum(parts: list[Progress]) -> Progress:
    document = parts[-1].document if parts else ""
    return Progress(document, sum(part.pages_read for part in parts), sum(part.ocr_read for part in parts))


def _together(one: IndexReport, other: IndexReport) -> IndexReport:
    problems: list[ReadProblem] = [*one.problems, *other.problems]
    return IndexReport(
        documents_added=one.documents_added + other.documents_added,
        documents_replaced=one.documents_replaced + other.documents_replaced,
        documents_unchanged=one.documents_unchanged + other.documents_unchanged,
        documents_recovered=[*one.documents_recovered, *other.documents_recovered],
        pages_added=one.pages_added + other.pages_added,
        pages_ocr=one.pages_ocr + other.pages_ocr,
        pages_unchanged=one.pages_unchanged + other.pages_unchanged,
        problems=problems,
        seconds=max(one.seconds, other.seconds),
    )
