"""2-layer random models with a byte-level tokenizer trained on the spot: real policies that say nothing sensible."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from colsearcher.agent.policy import Policy

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_policy(context: int = 256) -> Policy:
    """A Llama."""
    return tiny_policy_of("llama", context)


def tiny_policy_of(kind: str, context: int = 2048, seed: int = 0) -> Policy:
    """A `llama`, `qwen3`, `mistral` (all layers look back 16 tokens) or `gemma3` (every other one does)."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the query of the valve </answer>.\n <end_of_query>\n"] * 50, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", chat_template=TEMPLATE)
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = {
        "llama": lambda: LlamaConfig(**sizes),
        "qwen3": lambda: Qwen3Config(**sizes, head_dim=8),
        "mistral": lambda: MistralConfig(**sizes, sliding_window=16, head_dim=8),
        "gemma3": lambda: Gemma3TextConfig(
            **sizes, sliding_window=16, head_dim=8, layer_types=["sliding_attention", "full_attention"], pad_token_id=0
        ),
    }[kind]()
    model = AutoModelForCausalLM.from_config(config).eval()
    return Policy("tiny", "0", model, tokenizer, "cpu", "float32", "test")
