"""Exact MaxSim timed beside the same definition in torch and in numpy, on the same vectors in the same run."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from colsearcher.indexes.maxsim import PageRows, scan

PRESETS = {"small": (6_000, 95)}
DIM, QUERY_VECTORS, QUERIES, CONCURRENT = 128, 20, 20, 16


def bench_search(preset: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Time each engine; recall@10 is against float64 numpy.

    The vectors are clustered random directions, ragged documents of 40 to 150 vectors, 128-d, stored float16.
    """
    documents, mean_rows = PRESETS[preset]
    rng = np.random.default_rng(0)
    lengths = rng.integers(40, 2 * mean_rows - 40, documents)
    centres = rng.normal(size=(2_000, DIM)).astype(np.float32)
    vectors = centres[rng.integers(0, len(centres), lengths.sum())] + rng.normal(size=(lengths.sum(), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    picked = rng.integers(0, len(vectors), (QUERIES, QUERY_VECTORS))
    queries = vectors[picked] + 0.5 * rng.normal(size=(QUERIES, QUERY_VECTORS, DIM)).astype(np.float32) / DIM**0.5
    queries = (queries / np.linalg.norm(queries, axis=2, keepdims=True)).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    half = vectors.astype(np.float16)
    rows = PageRows(half, starts, lengths)
    tell(f"{documents:,} documents, {len(vectors):,} vectors of {DIM} dimensions, {QUERIES} queries of {QUERY_VECTORS}")

    def ours(batch_Q_T_D: np.ndarray) -> np.ndarray:
        weights = np.kron(np.eye(len(batch_Q_T_D)), np.ones((QUERY_VECTORS, 1)))
        return scan([rows], batch_Q_T_D.reshape(-1, DIM), weights).T

    wide = torch.from_numpy(half.astype(np.float32))
    owner = torch.from_numpy(np.repeat(np.arange(documents), lengths))

    def torch_fp32(batch_Q_T_D: np.ndarray) -> np.ndarray:
        similarities = wide @ torch.from_numpy(batch_Q_T_D.reshape(-1, DIM)).T
        index = owner[:, None].expand_as(similarities)
        best = torch.full((documents, similarities.shape[1]), -2.0).scatter_reduce(0, index, similarities, "amax")
        return best.view(documents, len(batch_Q_T_D), QUERY_VECTORS).sum(2).T.numpy()

    floats = half.astype(np.float32)

    def numpy_fp32(batch_Q_T_D: np.ndarray) -> np.ndarray:
        best = np.maximum.reduceat(floats @ batch_Q_T_D.reshape(-1, DIM).T, starts, axis=0)
        return best.reshape(documents, len(batch_Q_T_D), QUERY_VECTORS).sum(2).T

    exact = np.stack(
        [np.maximum.reduceat(half.astype(np.float64) @ q.T.astype(np.float64), starts, axis=0).sum(1) for q in queries]
    )
    engines = (
        ("colsearcher exact fp16", ours, 2 * DIM),
        ("torch fp32", torch_fp32, 4 * DIM),
        ("numpy fp32", numpy_fp32, 4 * DIM),
    )
    timed: list[dict[str, Any]] = []
    for name, engine, bytes_per_vector in engines:
        tell(f"timing {name}")
        timed.append({"engine": name, **_time(engine, queries), "recall@10": _recall(engine(queries), exact)})
        timed[-1] |= {"bytes_per_vector": bytes_per_vector, "build_s": 0.0}
    for row in timed:
        row["ratio_to_torch"] = round(timed[1]["ms_per_query"] / row["ms_per_query"], 2)
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
    }
    return {"preset": preset, "rows": timed, "machine": machine}


def _time(engine: Callable[[np.ndarray], np.ndarray], queries_Q_T_D: np.ndarray) -> dict[str, float]:
    engine(queries_Q_T_D[:1])
    singles = []
    for query in queries_Q_T_D:
        started = time.perf_counter()
        engine(query[None])
        singles.append(time.perf_counter() - started)
    started = time.perf_counter()
    engine(queries_Q_T_D[:CONCURRENT])
    batch = time.perf_counter() - started
    return {"ms_per_query": round(1000 * float(np.median(singles)), 2), "qps_16": round(CONCURRENT / batch, 2)}


def _recall(scores_Q_P: np.ndarray, exact_Q_P: np.ndarray) -> float:
    top = [set(np.argsort(-row, kind="stable")[:10].tolist()) for row in scores_Q_P]
    gold = [set(np.argsort(-row, kind="stable")[:10].tolist()) for row in exact_Q_P]
    return round(float(np.mean([len(a & b) / 10 for a, b in zip(top, gold, strict=True)])), 4)
