"""`PageEmbedder` over a colpali-engine model: pages are seen, not read.

Pages of like size are batched up to a budget of tokens; the pictures of the next batch are prepared while the model looks at
one. Padding never reaches an embedding: rows of padding are dropped, and a page's vectors do not depend on what it is
batched with. A score is the mean over the query's tokens of what colpali-engine sums up, so that it lies in [-1, 1].
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from colsearcher.indexes.errors import ModelProblem, UserError
from colsearcher.indexes.records import PageEmbedding, QueryEmbedding
from colsearcher.retrieval.page import Page
from colsearcher.retrieval.render import PICTURE_DPI, draw
from colsearcher.retrieval.visual import patches
from colsearcher.retrieval.visual.loading import Checkpoint
from colsearcher.retrieval.visual.query_words import query_words

if TYPE_CHECKING:
    import torch

# Tokens in a batch, padding counted: enough to keep a device busy.
_BATCH_TOKENS = {"cuda": 16_384, "cpu": 2_048}
# Pages are drawn with so many times the pixels that the model looks at, so that scaling down smooths them.
PIXELS_DRAWN = 2.0
# Longer side to shorter: Qwen's processors refuse a picture beyond 200.
_NARROWEST = 150


class VisualEmbedder:
    """The embedder of a checkpoint.

    Attributes:
        family: name of the model's family.
        single: one vector per page and per query.
    """

    block_rows = 0

    def __init__(self, checkpoint: Checkpoint, *, batch_tokens: int | None = None) -> None:
        self._checkpoint = checkpoint
        self._model, self._processor = checkpoint.model, checkpoint.processor
        self._budget = batch_tokens or _BATCH_TOKENS.get(checkpoint.device.type, _BATCH_TOKENS["cpu"])
        self._looking = threading.Lock()
        self._image_token = int(self._model.config.image_token_id)
        self.name = checkpoint.name
        self.revision = checkpoint.revision
        self.family = checkpoint.family.name
        self.single = checkpoint.family.single
        # Bi models give their hidden states as they are.
        self.dim = int(getattr(self._model, "dim", 0) or self._model.config.get_text_config().hidden_size)

    @property
    def device(self) -> str:
        return self._checkpoint.how

    @property
    def picture_pixels(self) -> int:
        """How many pixels of a page's picture are of use; readers draw no more."""
        processor = self._processor.image_processor
        size = processor.size
        if self._checkpoint.family.layout == "grid":
            looked_at = size["longest_edge"]
        elif self._checkpoint.family.layout == "tiles":
            looked_at = size["longest_edge"] ** 2
        else:
            looked_at = size["height"] * size["width"]
        return int(PIXELS_DRAWN * looked_at)

    def embed_pages(self, pages: Sequence[Page]) -> list[PageEmbedding]:
        """One embedding per page, in order; may be called by several threads, whose pictures are then prepared side by side.

        Raises:
            UserError: a passage, which has no picture.
            FileProblem: a page that carries no picture cannot be drawn.
            ModelProblem: a single page needs more memory than the device has.
        """
        return self.embed_pictures([self._picture(page) for page in pages])

    def embed_pictures(self, pictures: Sequence[Image.Image]) -> list[PageEmbedding]:
        """One embedding per picture, in order; see `embed_pages`."""
        pictures = [no_line(picture) for picture in pictures]
        found: dict[int, PageEmbedding] = {}
        waiting = self._batches([picture.size for picture in pictures])
        with ThreadPoolExecutor(1) as ahead:
            prepared = ahead.submit(self._prepare, pictures, waiting[0]) if waiting else None
            while prepared:
                batch, inputs = waiting.pop(0), prepared.result()
                prepared = ahead.submit(self._prepare, pictures, waiting[0]) if waiting else None
                found |= dict(zip(batch, self._looked_at(pictures, batch, inputs), strict=True))
        return [found[i] for i in range(len(pictures))]

    def embed_queries(self, texts: Sequence[str]) -> list[QueryEmbedding]:
        for text in texts:
            if not any(character.isalnum() for character in text):
                raise UserError(f"The question «{text}» is empty; ask with at least one word.")
        # One text at a time, so that a query's vectors do not depend on what it is asked together with.
        return [self._query(text) for text in texts]

    def places(self, inputs: Any, row: int) -> patches.Patches:
        """Where the tokens of a page stand, those of padding left out; of a model with many vectors per page.

        Args:
            inputs: what the processor made of a batch of pictures.
            row: the page's place in the batch.
        """
        ids_N = inputs["input_ids"][row][inputs["attention_mask"][row].bool()].numpy()
        image_N = ids_N == self._image_token
        layout = self._checkpoint.family.layout
        if layout == "grid":
            time, down, across = inputs["image_grid_thw"][row].tolist()
            return patches.grid_patches(image_N, (time, down, across), self._processor.image_processor.merge_size)
        if layout == "tiles":
            return patches.tile_patches(image_N, lambda span: self._processor.tokenizer.decode(ids_N[span].tolist()))
        return patches.square_patches(image_N)

    def words(self, inputs: Any, row: int, text: str) -> list[str | None]:
        """The word that each token of a question stands for, those of padding left out; see `query_words`.

        Args:
            inputs: what the processor made of a batch of questions.
            row: the question's place in the batch.
        """
        ids = inputs["input_ids"][row][inputs["attention_mask"][row].bool()].tolist()
        return query_words(text, ids, self._processor.tokenizer)

    def _query(self, text: str) -> QueryEmbedding:
        inputs = self._processor.process_queries([text])
        vectors = self._run(inputs)[0]
        if self.single:
            return QueryEmbedding(vectors[None], np.ones(1, np.float32), ("",), np.ones(1, dtype=bool), text, by_rarity=False)
        real = inputs["attention_mask"][0].bool()
        words = self.words(inputs, 0, text)
        special = np.array([word is None for word in words])
        # All tokens count the same (`ranking.vector_weights` brings those of the words to a sum of 1 first).
        weights = np.where(special, 1 / max(1, int((~special).sum())), 1).astype(np.float32)
        return QueryEmbedding(
            vectors[real.numpy()], weights, tuple(word or "" for word in words), special, text, by_rarity=False
        )

    def _picture(self, page: Page) -> Image.Image:
        if page.picture is not None:
            return page.picture
        if page.image is None:
            raise UserError(
                f"«{page.document}» is a passage of text and {self.family} looks at pages; "
                "use --embedder minilm, or draw the passages as pages."
            )
        return draw(page.image, dpi=PICTURE_DPI, max_pixels=self.picture_pixels)

    def _batches(self, sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Pictures of like size together, so that little is padded; a batch has at most `_budget` tokens."""
        tokens = [self._tokens(size) for size in sizes]
        batches: list[list[int]] = []
        for i in sorted(range(len(sizes)), key=lambda i: -tokens[i]):
            if not batches or (len(batches[-1]) + 1) * tokens[batches[-1][0]] > self._budget:
                batches.append([])
            batches[-1].append(i)
        return batches

    def _tokens(self, size: tuple[int, int]) -> int:
        """About how many tokens a picture of (width, height) becomes."""
        processor, layout = self._processor.image_processor, self._checkpoint.family.layout
        if layout == "grid":
            return int(processor.get_number_of_image_patches(size[1], size[0])) // processor.merge_size**2
        if layout == "tiles":
            return int(processor.get_number_of_image_patches(size[1], size[0])[0] + 1) * int(self._processor.image_seq_len)
        return int(self._processor.image_seq_length)

    def _prepare(self, pictures: Sequence[Image.Image], batch: Sequence[int]) -> Any:
        return self._processor.process_images([pictures[i] for i in batch])

    def _looked_at(self, pictures: Sequence[Image.Image], batch: Sequence[int], inputs: Any) -> Iterator[PageEmbedding]:
        """The batch's embeddings, in smaller batches where the device runs out of memory."""
        try:
            output = self._run(inputs)
        except _out_of_memory() as error:
            if len(batch) == 1:
                width, height = pictures[batch[0]].size
                raise ModelProblem(
                    f"A page of {width} x {height} pixels needs more memory than {self._checkpoint.device} has; "
                    f"say --embedder '{self.name.partition('?')[0]}?max_pixels=300000', or use another device."
                ) from error
        else:
            yield from self._embeddings(inputs, output)
            return
        self._empty_cache()
        self._budget = max(self._tokens(pictures[batch[0]].size), self._budget // 2)
        half = len(batch) // 2
        for part in (batch[:half], batch[half:]):
            yield from self._looked_at(pictures, part, self._prepare(pictures, part))

    def _run(self, inputs: Any) -> np.ndarray:
        """(B, n, dim) float32, or (B, dim) of a single-vector model; rows of padding hold anything."""
        import torch

        device, dtype = self._checkpoint.device, self._model.dtype
        # A model of the PaliGemma family would work out the likelihood of its own prompt.
        given = {key: value.to(device) for key, value in inputs.items() if key != "labels"}
        if "pixel_values" in given:
            given["pixel_values"] = given["pixel_values"].to(dtype)
        if self._checkpoint.family.model_type == "paligemma":
            given["logits_to_keep"] = 1
        with self._looking, torch.inference_mode():
            vectors: torch.Tensor = self._model(**given)
            found: np.ndarray = vectors.float().cpu().numpy()
        return found

    def _embeddings(self, inputs: Any, output: np.ndarray) -> Iterator[PageEmbedding]:
        for row, vectors in enumerate(output):
            if self.single:
                place = patches.nowhere(1)
                yield PageEmbedding(_unit(vectors[None]), place.boxes, place.special)
                continue
            real = inputs["attention_mask"][row].bool().numpy()
            place = self.places(inputs, row)
            yield PageEmbedding(_unit(vectors[real]), place.boxes, place.special)

    def _empty_cache(self) -> None:
        import torch

        if self._checkpoint.device.type == "cuda":
            torch.cuda.empty_cache()


def no_line(picture: Image.Image) -> Image.Image:
    """The picture, made broader if it is too thin for a model to take; what stands where on it stays, in fractions of it.

    >>> no_line(Image.new("RGB", (3, 900))).size
    (6, 900)
    """
    least = -(-max(picture.size) // _NARROWEST)
    if min(picture.size) >= least:
        return picture
    return picture.resize((max(picture.width, least), max(picture.height, least)))


def _unit(vectors_N_D: np.ndarray) -> np.ndarray:
    """Rows of length 1: models compute in few bits."""
    return vectors_N_D / np.linalg.norm(vectors_N_D, axis=1, keepdims=True)


def _out_of_memory() -> tuple[type[BaseException], ...]:
    import torch

    return (torch.OutOfMemoryError, MemoryError)
