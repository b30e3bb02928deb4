"""A ColPali of about a million random weights with a tokenizer of the practice pages' words: small enough to train on two
cores in minutes, and otherwise a checkpoint like any other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

SIDE, PATCH = 112, 16
_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<image>")


def write_checkpoint(folder: Path, texts: Iterable[str], *, seed: int = 0) -> Path:
    """Write the untrained model and its processor; the words of the texts are those that it can read."""
    import torch
    from colpali_engine.models import ColPali, ColPaliProcessor
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PaliGemmaConfig, PreTrainedTokenizerFast, SiglipImageProcessor
    from transformers.utils import logging

    words = sorted({word for text in [*texts, "Describe the image."] for word in re.findall(r"\w+|[^\w\s]+", text.lower())})
    ids = {word: i for i, word in enumerate([*_SPECIAL, *words])}
    by_word = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    by_word.normalizer = normalizers.Lowercase()
    by_word.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=by_word, **named)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    pictures = SiglipImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    # ColPali's processor asks its picture processor how many tokens a picture becomes.
    pictures.image_seq_length = (SIDE // PATCH) ** 2  # type: ignore[attr-defined]
    processor = ColPaliProcessor(pictures, tokenizer)
    layers = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "initializer_range": 0.05}
    text = {"num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": len(processor.tokenizer)}
    vision = {"num_hidden_layers": 3, "image_size": SIDE, "patch_size": PATCH, "projection_dim": 128, "vision_use_head": False}
    config = PaliGemmaConfig(
        text_config={**layers, **text, "model_type": "gemma", "pad_token_id": 0, "max_position_embeddings": 512},
        vision_config={**layers, **vision, "model_type": "siglip_vision_model"},
        image_token_index=ids["<image>"],
        projection_dim=128,
        # Published models start from 0.02 with layers ten times as wide; so small a model would learn to attend late.
        initializer_range=0.05,  # type: ignore[call-arg]
    )
    torch.manual_seed(seed)
    logging.disable_progress_bar()
    ColPali(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
