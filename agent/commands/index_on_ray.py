"""The part of `colsearcher index add` that works on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from colsearcher.agent.terminal import tell
from colsearcher.indexes.errors import UserError
from colsearcher.indexes.shard_list import is_sharded, read_shards
from colsearcher.retrieval.indexing import IndexReport, Progress, missing_work
from colsearcher.retrieval.ray_cluster import Cluster
from colsearcher.retrieval.ray_indexing import add_documents_on_ray, loader_of, wants_gpus
from colsearcher.retrieval.ray_shards import OpenShard, ShardJob, add_documents_to_shards, require_shards

if TYPE_CHECKING:
    from colsearcher.retrieval.corpus import Sources
    from colsearcher.retrieval.embedder import PageEmbedder
    from colsearcher.retrieval.reading import ReadSettings

_TELL_SECONDS = 10.0


def require_place(folder: Path, shards: int | None) -> Path:
    """Where the index, or the first shard, of a folder is or will be.

    Raises:
        UserError: the folder holds shards and none were asked for, or the other way round, or another number.
    """
    if shards is not None:
        return folder / require_shards(folder, shards)[0]
    if is_sharded(folder):
        count = len(read_shards(folder))
        raise UserError(f"{folder} holds {count} shards; add documents to them with --shards {count}.")
    return folder


def add_on_ray(
    folder: Path,
    open: OpenShard,
    sources: Sources,
    embedder: PageEmbedder,
    settings: ReadSettings,
    *,
    device: str,
    address: str,
    shards: int | None,
    retry: bool,
) -> IndexReport:
    """Index the sources on a cluster, into one index or into shards, and say how far it is every ten seconds.

    Args:
        open: opens the index at a folder, or makes it, for an embedder.
        device: where the model of each actor runs.
    """
    tell(f"looking through {len(sources.files):,} files")
    load, gpus, on_progress = loader_of(embedder, device), wants_gpus(embedder, device), _telling()
    if shards is not None:
        job = ShardJob(open, load, settings, retry)
        on_start = partial(_tell_cluster, embedder.name, f"{shards} shards")
        return add_documents_to_shards(
            folder, sources, job, shards, address=address, gpus=gpus, on_start=on_start, on_progress=on_progress
        )
    with open(folder, embedder) as index, index.writing():
        work = missing_work(index, sources, retry=retry)
        on_start = partial(_tell_cluster, embedder.name, f"{len(work.to_read):,} files")
        return add_documents_on_ray(
            index, embedder, load, work, settings, address=address, gpus=gpus, on_start=on_start, on_progress=on_progress
        )


def _tell_cluster(embedder: str, what: str, cluster: Cluster) -> None:
    tell(f"{what} to index on a Ray cluster of {cluster}, embedder {embedder}")


def _telling() -> Callable[[Progress], None]:
    started = told = 0.0

    def on_progress(progress: Progress) -> None:
        nonlocal started, told
        now = time.monotonic()
        if not started and progress.pages_read:
            # Starting a cluster and loading models takes as long as hundreds of pages.
            started = told = now
        if started and now - told >= _TELL_SECONDS:
            told = now
            rate = progress.pages_read / (now - started)
            tell(f"indexing {progress.pages_read:,} pages  {rate:.1f} pages/s  {progress.document}")

    return on_progress
