"""Learning where: a patch inside a gold box has to match the words that the box is about better than patches elsewhere do.

A contrastive loss asks only that some patch of the right page matches, and layers of attention let any patch speak for all of
the page; heat maps of such a model may peak anywhere. With the relevance that a heat map shows,

    r_n = max over the tokens t of the words of  q_t · p_n

for each patch n that stands somewhere on the page, the loss of a box is the cross-entropy of «the patch is in the box»,

    loss = -log( sum over n in the box of exp(r_n / tau)  /  sum over all n of exp(r_n / tau) ),

which leaves it open which patch of the box it is, and each patch free to match other words. A patch is in the box when its
centre is; where no centre is, the patch nearest to the box's centre. A box without words of its own is about all words of the
question but function words, which heat maps hardly show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from colsearcher.indexes.address import Box
from colsearcher.indexes.errors import UserError
from colsearcher.indexes.stop_words import STOP_WORDS
from colsearcher.retrieval.named_words import named_words
from colsearcher.retrieval.visual.embedder import VisualEmbedder
from colsearcher.training.retriever.pairs import Pair

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BoxTargets:
    """The K boxes of a batch, as positions in its padded tensors.

    Attributes:
        pairs_K: int64, the pair of the batch that a box belongs to.
        tokens_K_T: int64, tokens of the words; short rows are filled up with their first.
        patches_K_N: int64, patches that stand somewhere; short rows are filled up with their first.
        filled_K_N: bool, what is only filled up.
        inside_K_N: bool, patches in the box.
    """

    pairs_K: torch.Tensor
    tokens_K_T: torch.Tensor
    patches_K_N: torch.Tensor
    filled_K_N: torch.Tensor
    inside_K_N: torch.Tensor


class BoxLoss:
    """The loss of the boxes of a batch, and what of the batch it is about."""

    def __init__(self, embedder: VisualEmbedder, *, weight: float, temperature: float) -> None:
        """
        Args:
            embedder: of the model that learns; it knows places and words.
            weight: what the mean over boxes counts in the sum of losses.
            temperature: what similarities are divided by.

        Raises:
            UserError: the model gives one vector per page, or the weight is not positive.
        """
        if embedder.single:
            raise UserError(f"{embedder.family} makes one vector of a page, which has no places; leave --box-weight out.")
        if not 0 < weight < float("inf"):
            raise UserError(f"The box weight is {weight}; it must be above 0.")
        self.weight, self._temperature, self._embedder = weight, temperature, embedder

    def targets(self, batch: Sequence[Pair], questions: Any, pages: Any) -> BoxTargets | None:
        """What the boxes of a batch are about, None without boxes.

        Args:
            questions: what the processor made of the questions, in the order of the batch.
            pages: what it made of the pages.

        Raises:
            UserError: the tokens of a box's words cannot be told from those of the rest.
        """
        pairs: list[int] = []
        tokens: list[np.ndarray] = []
        patches: list[np.ndarray] = []
        inside: list[np.ndarray] = []
        for row, pair in enumerate(batch):
            if not pair.boxes:
                continue
            words = self._embedder.words(questions, row, pair.question)
            place = self._embedder.places(pages, row)
            standing = np.flatnonzero(~place.special)
            for gold in pair.boxes:
                meant = _meant(words, gold.words)
                if not meant.any():
                    raise UserError(f"The words «{gold.words}» are not found among the tokens of «{pair.question}».")
                pairs.append(row)
                tokens.append(_positions(questions, row)[meant])
                patches.append(_positions(pages, row)[standing])
                inside.append(_in_box(place.boxes[standing], gold.box))
        if not pairs:
            return None
        import torch

        lengths_K_1 = np.array([len(row) for row in patches])[:, None]
        filled_K_N = np.arange(lengths_K_1.max()) >= lengths_K_1
        inside_K_N = np.zeros_like(filled_K_N)
        inside_K_N[~filled_K_N] = np.concatenate(inside)
        arrays = (np.array(pairs), _filled_up(tokens), _filled_up(patches), filled_K_N, inside_K_N)
        return BoxTargets(*map(torch.from_numpy, arrays))

    def __call__(self, questions_B_T_D: torch.Tensor, pages_B_N_D: torch.Tensor, targets: BoxTargets) -> torch.Tensor:
        """The mean loss of the boxes, without the weight: a scalar."""
        device = pages_B_N_D.device
        pairs_K_1 = targets.pairs_K.to(device)[:, None]
        # Only what is meant is picked, because rows of padding are NaN in some families.
        words_K_T_D = questions_B_T_D[pairs_K_1, targets.tokens_K_T.to(device)]
        patches_K_N_D = pages_B_N_D[pairs_K_1, targets.patches_K_N.to(device)]
        relevance_K_N = (words_K_T_D @ patches_K_N_D.transpose(1, 2)).amax(1) / self._temperature
        inside_K = relevance_K_N.masked_fill(~targets.inside_K_N.to(device), -float("inf")).logsumexp(1)
        all_K = relevance_K_N.masked_fill(targets.filled_K_N.to(device), -float("inf")).logsumexp(1)
        return (all_K - inside_K).mean()


def _meant(words: Sequence[str | None], named: str) -> np.ndarray:
    """(t,) bool: the tokens that a box is about."""
    if named:
        return named_words(words, named)
    some = np.array([bool(word) for word in words])
    telling = np.array([bool(word) and word not in STOP_WORDS for word in words])
    if telling.any():
        return telling
    return some if some.any() else np.array([word is not None for word in words])


def _in_box(boxes_N_4: np.ndarray, box: Box) -> np.ndarray:
    """(n,) bool: the patches of which the centre is in the box, or else the one whose centre is nearest to the box's."""
    centres = (boxes_N_4[:, :2] + boxes_N_4[:, 2:]) / 2
    inside = ((centres >= box[:2]) & (centres <= box[2:])).all(1)
    if not inside.any():
        middle = (np.array(box[:2]) + np.array(box[2:])) / 2
        inside[((centres - middle) ** 2).sum(1).argmin()] = True
    return inside


def _positions(inputs: Mapping[str, Any], row: int) -> np.ndarray:
    """(n,) int64: where in the padded row the tokens are."""
    return np.flatnonzero(inputs["attention_mask"][row].numpy())


def _filled_up(rows: Sequence[np.ndarray]) -> np.ndarray:
    longest = max(map(len, rows))
    return np.stack([np.concatenate([row, np.full(longest - len(row), row[0])]) for row in rows])
