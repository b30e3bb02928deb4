"""A Qwen2.5-VL and a Qwen3-VL of two layers with random weights, their real image processor and a tokenizer of bytes."""

from __future__ import annotations

from pathlib import Path

import tiny_checkpoints
import torch
import transformers as hf
from safetensors.torch import save_file
from tiny_policy import TEMPLATE

from colsearcher.agent.pictures import PictureCutter
from colsearcher.agent.policy import Policy

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def tiny_vision_policy(kind: str = "qwen2_5_vl", seed: int = 0) -> Policy:
    words, ids = tiny_checkpoints.tokenizer(SPECIAL, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    words.chat_template = TEMPLATE
    named = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": False,
    }
    # Heads of a size that vLLM computes on a CPU, too.
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6]}
    text = tiny_checkpoints.TEXT | {
        "hidden_size": 64,
        "head_dim": 32,
        "vocab_size": len(words),
        "max_position_embeddings": 8192,
        "initializer_range": 0.2,
        "eos_token_id": words.eos_token_id,
        "bos_token_id": None,
    }
    patch = 16 if kind == "qwen3_vl" else 14
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": patch,
    }
    if kind == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": patch}
    elif kind == "qwen2_5_vl":
        vision |= {"fullatt_block_indexes": [1], "window_size": 112}
    else:
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
        rope = rope | {"mrope_interleaved": True}
    config_class = {"qwen2_vl": hf.Qwen2VLConfig, "qwen2_5_vl": hf.Qwen2_5_VLConfig, "qwen3_vl": hf.Qwen3VLConfig}[kind]
    config = config_class(text_config=text | {"rope_parameters": rope}, vision_config=vision, **named)
    torch.manual_seed(seed)
    model = hf.AutoModelForImageTextToText.from_config(config).eval()
    model.generation_config.eos_token_id = words.eos_token_id
    processor = hf.Qwen2VLImageProcessor(patch_size=patch, merge_size=2, min_pixels=4 * (2 * patch) ** 2)
    tokens = (ids["<|vision_start|>"], ids["<|image_pad|>"], ids["<|vision_end|>"], ids["<|video_pad|>"])
    return Policy(f"tiny {kind}", "0", model, words, "cpu", "float32", "test", PictureCutter(processor, *tokens))


def store(policy: Policy, folder: Path) -> Path:
    """A checkpoint as the hub has them: model, tokenizer, and the processor with what it cuts images and videos with."""
    kind = policy.model.config.model_type
    images = policy.cutter.processor
    processor = {"qwen2_vl": hf.Qwen2VLProcessor, "qwen2_5_vl": hf.Qwen2_5_VLProcessor, "qwen3_vl": hf.Qwen3VLProcessor}[kind]
    cutter = hf.Qwen3VLVideoProcessor if kind == "qwen3_vl" else hf.Qwen2VLVideoProcessor
    videos = cutter(patch_size=images.patch_size, merge_size=images.merge_size)
    policy.model.save_pretrained(folder)
    # Under the names that checkpoints on the hub have; transformers 5.19 puts one more «model.» before those of a new Qwen3-VL.
    weights = {name: weight.contiguous() for name, weight in policy.model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    processor(images, policy.tokenizer, videos, chat_template=policy.tokenizer.chat_template).save_pretrained(folder)
    images.save_pretrained(folder)
    return folder
