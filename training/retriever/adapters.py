"""LoRA on a colpali-engine model, and back to a plain model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from colsearcher.indexes.errors import ModelProblem, UserError

if TYPE_CHECKING:
    from torch import nn

_LANGUAGE = re.compile(r"(.*\.)?(language_model|text_model)\.(?P<within>.+)")
_HEADS = ("custom_text_proj", "linear")


def target_modules(model: nn.Module) -> str:
    """A pattern of all linear layers of the language model and of the projection to page vectors, as the published recipes of
    ColPali and ColQwen2 adapt them; the vision tower stays as it is.

    Raises:
        ModelProblem: the model has no language model with linear layers.
    """
    from torch import nn

    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    leaves = {name.rpartition(".")[2] for name in linear if _LANGUAGE.fullmatch(name)} - {"lm_head"}
    if not leaves:
        raise ModelProblem(f"{type(model).__name__} has no language model that LoRA could adapt; train it with --full.")
    heads = [name for name in linear if name in _HEADS]
    inside = rf"(.*\.)?(language_model|text_model)\.(.*\.)?({'|'.join(sorted(leaves))})"
    return "|".join([inside, *heads])


def add_lora(model: Any, rank: int, *, base: str, seed: int) -> Any:
    """The model with new adapters of a rank, which alone learn: alpha as the rank, dropout 0.1, gaussian start.

    Args:
        base: the folder or hub id that the adapter will name as its base model.

    Raises:
        UserError: the rank is below 1.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    if rank < 1:
        raise UserError(f"The LoRA rank is {rank}; it must be 1 or more (the published recipes take 32).")
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.1,
        init_lora_weights="gaussian",
        bias="none",
        task_type="FEATURE_EXTRACTION",
        target_modules=target_modules(model),
    )
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


def plain(model: Any) -> Any:
    """A model that an adapter was merged into, without the adapter: each adapted layer gives way to the layer in it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]:
        if not layer.merged:
            raise ValueError(f"the adapter of {name} is not merged")
        above, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(above), leaf, layer.get_base_layer())
    model._hf_peft_config_loaded = False
    return model
