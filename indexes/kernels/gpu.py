"""Scoring stored pages on a GPU: what is copied there, what stays, and the work that `triton_scan` is given.

Codes are copied to the device once and stay while they fit a budget; of segments that do not fit, the first rows stay and the
others pass through two buffers at every search, copied while the chunk before is scored. Scores of all pages need not come
back: `top` keeps the best ones on the device.

On the device "cpu" the same code runs under Triton's interpreter, which is how it is tested; no search runs that way.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from colsearcher.indexes.codecs import Codec, EncodedVectors
from colsearcher.indexes.kernels.gpu_plan import Plan, plan_pages, runs_within, spans_of
from colsearcher.indexes.maxsim import PageRows, QueryBatch

if TYPE_CHECKING:
    import torch

    from colsearcher.indexes.kernels.query_tiles import Launch, QueryTiles, Tiling

# Share of the free memory that pages may take; bytes of a buffer that others pass through, and of the spans' maxima.
_BUDGET_SHARE = 0.75
_CHUNK_BYTES = 64 << 20
_MAXIMA_BYTES = 256 << 20
# A segment is kept once a search reads this share of it.
_WORTH_KEEPING = 0.25
_COPY_THREADS = 8
# Launches are timed on this many rows at most, and not on fewer than the other.
_TUNING_ROWS, _TUNING_LEAST = 4_000_000, 200_000
_LARGEST_POSITION = 2**32 - 1


def available() -> bool:
    """Whether there is a CUDA device that the kernels compile for (compute capability 8.0 or higher), and a compiler."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "triton")):
        return False
    import torch

    return torch.cuda.is_available() and torch.version.hip is None and torch.cuda.get_device_capability() >= (8, 0)


def best_keys(scores_P_Q: torch.Tensor, positions_P: torch.Tensor, k: int) -> torch.Tensor:
    """(Q, min(k, P)) int64, falling: a score in the upper half, below it a page's position, turned so that lower ones win."""
    import torch

    bits = (scores_P_Q.T.contiguous() + 0.0).view(torch.int32)
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    keys = (rising.to(torch.int64) << 32) | (_LARGEST_POSITION - positions_P)
    return torch.topk(keys, min(k, keys.shape[1]), dim=1).values


def read_keys(keys_Q_K: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Scores, float32, and positions, int64, of what `best_keys` gave.

    >>> import torch
    >>> read_keys(best_keys(torch.tensor([[0.5], [-0.0], [0.5], [0.0], [-1.0]]), torch.arange(5), 3))
    (array([[0.5, 0.5, 0. ]], dtype=float32), array([[0, 2, 1]]))
    """
    keys = keys_Q_K.cpu().numpy()
    rising = (keys >> 32).astype(np.int32)
    return (rising ^ ((rising >> 31) & 0x7FFFFFFF)).view(np.float32), _LARGEST_POSITION - (keys & _LARGEST_POSITION)


@dataclass
class _Resident:
    """The first rows of a segment, on the device, and the plan of the last search in them."""

    codes: torch.Tensor
    factors: torch.Tensor
    planned: tuple[tuple[int, ...], np.ndarray, np.ndarray, list[tuple[slice, Plan]]] | None = None

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.factors.nbytes


@dataclass(frozen=True)
class _Part:
    """Pages whose rows are on the device, and where they are in the caller's list; `home` where they stay."""

    codes: torch.Tensor
    factors: torch.Tensor
    starts_P: np.ndarray
    rows_P: np.ndarray
    positions_P: np.ndarray
    home: _Resident | None


class _Buffer:
    """Memory that codes pass through on their way to the device; pinned, so that copies run by themselves in a stream."""

    def __init__(self, rows: int, like: EncodedVectors, stream: torch.cuda.Stream | None) -> None:
        import torch

        self._stream = stream
        self._codes, self._factors = _room(rows, like, torch.device("cpu"), pinned=stream is not None)
        self._rows = 0
        if stream:
            self._sent, self._used = torch.cuda.Event(), torch.cuda.Event()

    def fill(self, runs: Sequence[tuple[EncodedVectors, int, int]], pool: ThreadPoolExecutor) -> None:
        """Gather runs of rows (vectors, first, last + 1), once what was gathered before is sent."""
        if self._stream:
            self._sent.synchronize()
        codes, factors = self._codes.numpy(), self._factors.numpy()

        def copy(encoded: EncodedVectors, start: int, stop: int, at: int) -> None:
            np.copyto(codes[at : at + stop - start], encoded.codes[start:stop])
            if len(factors):
                np.copyto(factors[at : at + stop - start], encoded.factors[start:stop])

        tasks, self._rows = [], 0
        for encoded, first, last in runs:
            step = max(-(-(last - first) // _COPY_THREADS), 1_024)
            for start in range(first, last, step):
                stop = min(start + step, last)
                tasks.append(pool.submit(copy, encoded, start, stop, self._rows))
                self._rows += stop - start
        for task in tasks:
            task.result()

    def send(self, codes: torch.Tensor, factors: torch.Tensor) -> None:
        """Copy what was gathered to the beginning of arrays on the device, once they are no longer in use."""
        import torch

        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            if self._stream:
                self._stream.wait_event(self._used)
            codes[: self._rows].copy_(self._codes[: self._rows], non_blocking=True)
            if len(factors):
                factors[: self._rows].copy_(self._factors[: self._rows], non_blocking=True)
            if self._stream:
                self._sent.record()

    @contextmanager
    def arrived(self) -> Iterator[None]:
        """While the current stream uses what was sent, which it waits for."""
        import torch

        if self._stream:
            torch.cuda.current_stream().wait_event(self._sent)
        yield
        if self._stream:
            self._used.record()


def _room(rows: int, like: EncodedVectors, device: torch.device, *, pinned: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Arrays for codes and factors of so many rows."""
    import torch

    kind = torch.float16 if like.codes.dtype == np.float16 else torch.uint8
    return (
        torch.empty((rows, like.codes.shape[1]), dtype=kind, device=device, pin_memory=pinned),
        torch.empty(rows if len(like.factors) else 0, dtype=torch.float16, device=device, pin_memory=pinned),
    )


def _row_bytes(encoded: EncodedVectors) -> int:
    return encoded.codes[:1].nbytes + encoded.factors[:1].nbytes


class DeviceScanner:
    """Scores pages on one device. One search at a time.

    Attributes:
        device: its name, "cuda" or "cuda:1".
        budget_bytes: what stored pages may take of its memory; buffers and results come on top, about half a gigabyte.
        launches: how kernels run, as timed on this device, for shapes of codes and queries and numbers of rows in a block.
    """

    def __init__(self, device: str = "cuda", budget_bytes: int | None = None) -> None:
        import torch

        self._device = torch.device(device)
        if budget_bytes is None:
            budget_bytes = int(_BUDGET_SHARE * torch.cuda.mem_get_info(self._device)[0])
        self.device = device
        self.budget_bytes = budget_bytes
        self.launches: dict[tuple[Tiling, int], Launch] = {}
        self._residents: OrderedDict[str, _Resident] = OrderedDict()

    def scan(self, segments: Sequence[PageRows], codec: Codec, queries: QueryBatch, block_rows: int = 0) -> np.ndarray:
        """(P, Q) float64: scores of the pages of all segments, in order, to within the bounds of `tile_queries`."""
        scores = np.empty((sum(len(segment.rows_P) for segment in segments), len(queries.offsets_Q) - 1))
        for positions, part in self._scores(segments, codec, queries, block_rows):
            scores[positions] = part.cpu().numpy()
        return scores

    def top(
        self, segments: Sequence[PageRows], codec: Codec, queries: QueryBatch, k: int, block_rows: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best pages of each query, best first and of equals the earlier: their scores and positions in `scan`'s order.

        Returns:
            Two arrays (Q, min(k, P)), float64 and int64.
        """
        import torch

        best = torch.empty((len(queries.offsets_Q) - 1, 0), dtype=torch.int64, device=self._device)
        for positions, scores in self._scores(segments, codec, queries, block_rows):
            first = int(positions[0])
            if positions[-1] - first + 1 == len(positions):
                where = torch.arange(first, first + len(positions), device=self._device)
            else:
                where = torch.from_numpy(positions).to(self._device)
            both = torch.cat([best, best_keys(scores, where, k)], dim=1)
            best = torch.topk(both, min(k, both.shape[1]), dim=1).values
        values, pages = read_keys(best)
        return values.astype(np.float64), pages

    def _scores(
        self, segments: Sequence[PageRows], codec: Codec, queries: QueryBatch, block_rows: int
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Positions of pages, rising, and their scores (pages, Q), part by part."""
        segments = [segment for segment in segments if len(segment.rows_P)]
        if not segments:
            return
        from colsearcher.indexes.kernels.query_tiles import tile_queries
        from colsearcher.indexes.kernels.triton_scan import score_pages

        with self._current():
            tiles = tile_queries(queries, codec, self._device)
            spans = max(_MAXIMA_BYTES // (4 * tiles.padded), 1)
            with ThreadPoolExecutor(_COPY_THREADS) as pool:
                self._keep(segments, pool)
                for part in self._parts(segments, pool):
                    launch = self._launch(part, tiles, block_rows)
                    for piece, plan in self._plans(part, block_rows, launch.rows, spans):
                        yield part.positions_P[piece], score_pages(part.codes, part.factors, plan, tiles, launch)

    def _current(self) -> AbstractContextManager[object]:
        import torch

        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _plans(self, part: _Part, block_rows: int, rows: int, spans: int) -> Iterator[tuple[slice, Plan]]:
        """Plans of at most so many spans for slices of a part; where pages stay, kept until other pages are asked for."""
        home, shape = part.home, (block_rows, rows, spans)
        if home and home.planned:
            known, starts, counts, plans = home.planned
            if known == shape and np.array_equal(starts, part.starts_P) and np.array_equal(counts, part.rows_P):
                yield from plans
                return
        made = []
        for piece in runs_within(spans_of(part.rows_P, block_rows), spans):
            made.append((piece, plan_pages(part.starts_P[piece], part.rows_P[piece], block_rows, rows, self._device)))
            yield made[-1]
        if home:
            home.planned = (shape, part.starts_P.copy(), part.rows_P.copy(), made)

    def _launch(self, part: _Part, tiles: QueryTiles, block_rows: int) -> Launch:
        from colsearcher.indexes.kernels.query_tiles import launches
        from colsearcher.indexes.kernels.triton_scan import fastest

        key = (tiles.tiling, block_rows)
        if key in self.launches:
            return self.launches[key]
        options = launches(tiles.tiling, self._device)
        if self._device.type == "cpu" or len(options) == 1 or part.rows_P.sum() < _TUNING_LEAST:
            return options[0]
        pages = slice(0, max(int(np.searchsorted(np.cumsum(part.rows_P), _TUNING_ROWS)), 1))
        plans = [
            plan_pages(part.starts_P[pages], part.rows_P[pages], block_rows, launch.rows, self._device) for launch in options
        ]
        self.launches[key] = fastest(options, plans, part.codes, part.factors, tiles)
        return self.launches[key]

    def _keep(self, segments: Sequence[PageRows], pool: ThreadPoolExecutor) -> None:
        """Copy segments that are worth it to the device, as far as they fit beside the others of this search."""
        wanted = {segment.key for segment in segments}
        for segment in segments:
            encoded, held = segment.encoded, self._residents.get(segment.key)
            if held:
                self._residents.move_to_end(segment.key)
            elif segment.rows_P.sum() < _WORTH_KEEPING * len(encoded):
                continue
            have = len(held.codes) if held else 0
            if have == len(encoded):
                continue
            size = _row_bytes(encoded)
            rows = min(have + self._make_room((len(encoded) - have) * size, wanted) // size, len(encoded))
            # A few rows more are not worth copying what is there again.
            if rows < len(encoded) and (rows - have) * size < _CHUNK_BYTES:
                continue
            held = None
            self._residents.pop(segment.key, None)
            self._residents[segment.key] = self._upload(encoded, rows, pool)

    def _make_room(self, wanted_bytes: int, wanted: set[str]) -> int:
        """Bytes left of the budget, after dropping what this search does not need, longest unused first, as far as it takes."""
        for key in [key for key in self._residents if key not in wanted]:
            if self.budget_bytes - self.resident_bytes >= wanted_bytes:
                break
            del self._residents[key]
        return max(self.budget_bytes - self.resident_bytes, 0)

    @property
    def resident_bytes(self) -> int:
        """What stays on the device at present."""
        return sum(resident.nbytes for resident in self._residents.values())

    def _upload(self, encoded: EncodedVectors, rows: int, pool: ThreadPoolExecutor) -> _Resident:
        import torch

        codes, factors = _room(rows, encoded, self._device)
        step = max(_CHUNK_BYTES // _row_bytes(encoded), 1)
        stream = torch.cuda.current_stream() if self._device.type == "cuda" else None
        buffers = [_Buffer(min(step, rows), encoded, stream) for _ in range(2)]
        for start, buffer in zip(range(0, rows, step), itertools.cycle(buffers), strict=False):
            buffer.fill([(encoded, start, min(start + step, rows))], pool)
            buffer.send(codes[start:], factors[start:])
        return _Resident(codes, factors)

    def _parts(self, segments: Sequence[PageRows], pool: ThreadPoolExecutor) -> Iterator[_Part]:
        """Pages that stay, segment by segment, then the others."""
        passing: list[tuple[EncodedVectors, np.ndarray, np.ndarray, np.ndarray]] = []
        count = 0
        for segment in segments:
            positions = count + np.arange(len(segment.rows_P))
            count += len(positions)
            held = self._residents.get(segment.key)
            stays = segment.starts_P + segment.rows_P <= (len(held.codes) if held else 0)
            if held and stays.all():
                yield _Part(held.codes, held.factors, segment.starts_P, segment.rows_P, positions, home=held)
                continue
            if held and stays.any():
                kept = (segment.starts_P[stays], segment.rows_P[stays], positions[stays])
                yield _Part(held.codes, held.factors, *kept, home=held)
            passing.append((segment.encoded, segment.starts_P[~stays], segment.rows_P[~stays], positions[~stays]))
        if passing:
            yield from self._pass_through(passing, pool)

    def _pass_through(
        self, passing: Sequence[tuple[EncodedVectors, np.ndarray, np.ndarray, np.ndarray]], pool: ThreadPoolExecutor
    ) -> Iterator[_Part]:
        """Copy pages to the device chunk by chunk, each while the one before is scored."""
        import torch

        sources = [encoded for encoded, *_ in passing]
        source_P = np.repeat(np.arange(len(sources)), [len(rows) for _, _, rows, _ in passing])
        starts_P, rows_P, positions_P = (np.concatenate(arrays) for arrays in list(zip(*passing, strict=True))[1:])
        # A run of rows ends where the next page lies elsewhere.
        breaks = (np.diff(source_P) != 0) | (starts_P[1:] != (starts_P + rows_P)[:-1])
        most = max(_CHUNK_BYTES // _row_bytes(sources[0]), int(rows_P.max()))
        pieces = runs_within(rows_P, most)
        stream = torch.cuda.Stream() if self._device.type == "cuda" else None
        if stream:
            stream.wait_stream(torch.cuda.current_stream())
        buffers = [_Buffer(most, sources[0], stream) for _ in pieces[:2]]
        rooms = [_room(most, sources[0], self._device) for _ in pieces[:2]]

        def send(i: int) -> None:
            piece = pieces[i]
            firsts = [piece.start, *(piece.start + 1 + np.flatnonzero(breaks[piece.start : piece.stop - 1]))]
            runs = [
                (sources[source_P[a]], int(starts_P[a]), int(starts_P[b - 1] + rows_P[b - 1]))
                for a, b in itertools.pairwise([*firsts, piece.stop])
            ]
            buffers[i % 2].fill(runs, pool)
            buffers[i % 2].send(*rooms[i % 2])

        send(0)
        for i, piece in enumerate(pieces):
            if i + 1 < len(pieces):
                send(i + 1)
            rows = rows_P[piece]
            with buffers[i % 2].arrived():
                yield _Part(*rooms[i % 2], np.cumsum(rows) - rows, rows, positions_P[piece], home=None)
