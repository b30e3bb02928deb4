"""The losses of colpali-engine by name, for models with many vectors per page and for those with one.

| name | many vectors (Khattab & Zaharia 2020, Faysse et al. 2024) | one vector |
|---|---|---|
| colbert, bi | ColbertLoss: cross-entropy over the batch's pages | BiEncoderLoss |
| …-pairwise | ColbertPairwiseCELoss: against the best wrong page of the batch | BiPairwiseCELoss |
| …-sigmoid | ColbertSigmoidLoss: every pair for itself | BiSigmoidLoss |
| bi-paired | none | BiPairedEncoderLoss: from the question and from the page |

With hard negatives the first two rows are ColbertNegativeCELoss (BiNegativeCELoss) and ColbertPairwiseNegativeCELoss
(BiPairwiseNegativeCELoss), which weigh the hard negatives and the batch's pages half each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    import torch

LossName = Literal["colbert", "colbert-pairwise", "colbert-sigmoid", "bi", "bi-pairwise", "bi-sigmoid", "bi-paired"]

_MANY = {
    "colbert": ("ColbertLoss", "ColbertNegativeCELoss"),
    "colbert-pairwise": ("ColbertPairwiseCELoss", "ColbertPairwiseNegativeCELoss"),
    "colbert-sigmoid": ("ColbertSigmoidLoss", None),
}
_ONE = {
    "bi": ("BiEncoderLoss", "BiNegativeCELoss"),
    "bi-pairwise": ("BiPairwiseCELoss", "BiPairwiseNegativeCELoss"),
    "bi-sigmoid": ("BiSigmoidLoss", None),
    "bi-paired": ("BiPairedEncoderLoss", None),
}
assert set(get_args(LossName)) == {*_MANY, *_ONE}


def make_loss(name: str | None, *, single: bool, negatives: bool, temperature: float) -> torch.nn.Module:
    """The loss of a name.

    Args:
        name: a `LossName`; None for cross-entropy over the batch.
        single: the model gives one vector per page.
        negatives: pairs bring hard negatives.
        temperature: what scores are divided by.

    Raises:
        UserError: the loss is not for such a model, takes no hard negatives, or the temperature is not positive.
    """
    from colpali_engine.loss import bi_encoder_losses, late_interaction_losses

    losses = _ONE if single else _MANY
    name = name or ("bi" if single else "colbert")
    if name not in losses:
        many = "one vector" if single else "many vectors"
        raise UserError(f"The loss {name} is not for a model with {many} per page; choose one of {', '.join(losses)}.")
    if temperature <= 0:
        raise UserError(f"The temperature is {temperature}; it must be above 0.")
    kind = losses[name][negatives]
    if kind is None:
        able = [other for other, kinds in losses.items() if kinds[1]]
        raise UserError(f"The loss {name} takes no hard negatives; choose one of {', '.join(able)}.")
    # Mean cosines lie between -1 and 1; without this the loss prints a line wherever one is below 0.
    more: dict[str, Any] = {} if single else {"norm_tol": 2.0}
    engine = bi_encoder_losses if single else late_interaction_losses
    return getattr(engine, kind)(temperature=temperature, **more)
