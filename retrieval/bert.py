"""The forward pass of a BERT encoder (Devlin et al. 2019), straight from its safetensors file.

Written out here because importing a model library takes several times as long as embedding a question does; the tests
compare it with that library's `BertModel`. Left out on purpose: training, dropout, heads, the pooler.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

_EPS = 1e-12


class BertEncoder:
    """A BERT encoder ready to run.

    Args:
        weights: a safetensors file with BERT's usual names.
        heads: attention heads; not written in the file.
        dtype: of weights and activations.
    """

    def __init__(self, weights: Path, heads: int, dtype: torch.dtype) -> None:
        tensors = {name: tensor.to(dtype) for name, tensor in load_file(weights).items() if tensor.is_floating_point()}
        self.heads = heads
        self._words = tensors["embeddings.word_embeddings.weight"]
        # Single-segment input: its type vector is part of every position.
        self._places = tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
        self._norm = _pair(tensors, "embeddings.LayerNorm")
        self._layers: list[tuple[tuple[torch.Tensor, torch.Tensor], ...]] = []
        while f"encoder.layer.{len(self._layers)}.attention.self.query.weight" in tensors:
            at = f"encoder.layer.{len(self._layers)}."
            parts = [_pair(tensors, f"{at}attention.self.{name}") for name in ("query", "key", "value")]
            joined = (torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts]))
            names = (
                "attention.output.dense",
                "attention.output.LayerNorm",
                "intermediate.dense",
                "output.dense",
                "output.LayerNorm",
            )
            self._layers.append((joined, *(_pair(tensors, at + name) for name in names)))

    @torch.inference_mode()
    def __call__(self, tokens_B_L: torch.Tensor, real_B_L: torch.Tensor) -> torch.Tensor:
        """The last hidden states, (B, L, hidden), in the encoder's dtype.

        Args:
            tokens_B_L: int64 token ids.
            real_B_L: bool, False for padding.
        """
        batch, length = tokens_B_L.shape
        hidden = _layer_norm(self._words[tokens_B_L] + self._places[:length], self._norm)
        mask = None if bool(real_B_L.all()) else real_B_L[:, None, None, :]
        for joined, out, out_norm, wide, narrow, norm in self._layers:
            heads = F.linear(hidden, *joined).view(batch, length, 3, self.heads, -1)
            query, key, value = heads.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            hidden = _layer_norm(hidden + F.linear(mixed.transpose(1, 2).reshape(batch, length, -1), *out), out_norm)
            hidden = _layer_norm(hidden + F.linear(F.gelu(F.linear(hidden, *wide)), *narrow), norm)
        return hidden


def _pair(tensors: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _layer_norm(hidden: torch.Tensor, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:], *pair, _EPS)
