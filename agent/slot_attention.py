"""Attention where keys and values lie: no copy of them is made for the heads that share them, none for slots that wait.

transformers' own repeats keys and values for every head of a group wherever there is a mask, which a batch of conversations
of different lengths always has; for a token of each that copy takes ten times as long as the attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from colsearcher.agent.slot_cache import Step

_NAME = "colsearcher_slots"
_step: ContextVar[Step] = ContextVar("step")


def serves(config: Any) -> bool:
    """Whether a model of this configuration attends in a way that this can stand for."""
    return config._attn_implementation == "sdpa"


@contextmanager
def attending(config: Any, step: Step) -> Iterator[None]:
    """Let a model of this configuration attend so, for one forward pass."""
    before, token = config._attn_implementation, _step.set(step)
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _step.reset(token)


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers asks of an attention function.

    Args:
        query: (R, heads, N, dim), a row for each conversation.
        key, value: (S, groups, K, dim), a row for each slot: those of the conversations, or all from the first to the last.
        attention_mask: bool, (S, 1, N, K).

    Returns (R, N, heads, dim).
    """
    rows, heads, width, dim = query.shape
    groups = key.shape[1]
    if width > 1:
        if query.device.type != "cpu":
            return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
        given = scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling, enable_gqa=groups < heads)
        return given.transpose(1, 2).contiguous(), None
    # The heads of a group stand side by side and see the same, so they are as many tokens of one head.
    folded = query.reshape(rows, groups, heads // groups, dim)
    if len(key) == rows:
        given = scaled_dot_product_attention(folded, key, value, attention_mask, scale=scaling)
    else:
        within_R = _step.get().within_R
        spread = folded.new_zeros((len(key), *folded.shape[1:])).index_copy_(0, within_R, folded)
        given = scaled_dot_product_attention(spread, key, value, attention_mask, scale=scaling)[within_R]
    return given.reshape(rows, 1, heads, dim), None


AttentionInterface.register(_NAME, slot_attention)
