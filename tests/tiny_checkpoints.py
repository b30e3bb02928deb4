"""Checkpoints of every colpali-engine family, small and random, with their real processors and tokenizers made on the spot."""

from pathlib import Path

import colpali_engine.models as engine
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "pad_token_id": 0,
}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
MULTIMODAL_ROPE = {"rope_type": "default", "mrope_section": [2, 3, 3]}


def tokenizer(special, **named):
    """A byte-level tokenizer whose ids are those of `special`, then of the bytes."""
    vocab = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    bytes_ = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=bytes_, **named)
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    return fast, vocab


def paligemma(model, processor):
    words, ids = tokenizer(["<pad>", "<eos>", "<bos>", "<image>"], pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")
    config = hf.PaliGemmaConfig(
        image_token_index=ids["<image>"],
        projection_dim=32,
        text_config=TEXT | {"model_type": "gemma", "vocab_size": len(words)},
        vision_config=VISION | {"model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14, "projection_dim": 32},
    )
    pictures = hf.SiglipImageProcessor(size={"height": 56, "width": 56})
    pictures.image_seq_length = 16
    return model(config), processor(pictures, words)


def gemma3(model, processor):
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    special = ["<pad>", "<eos>", "<bos>", *named.values(), "<start_of_turn>", "<end_of_turn>"]
    words, ids = tokenizer(
        special, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", extra_special_tokens=named, padding_side="left"
    )
    words.chat_template = (
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{% for c in m.content %}"
        "{% if c.type == 'image' %}<start_of_image>{% else %}{{ c.text }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    )
    config = hf.Gemma3Config(
        image_token_id=ids["<image_soft_token>"],
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        mm_tokens_per_image=16,
        text_config=TEXT | {"vocab_size": len(words), "sliding_window": 64},
        vision_config=VISION | {"model_type": "siglip_vision_model", "image_size": 56, "patch_size": 7},
    )
    pictures = hf.Gemma3ImageProcessor(size={"height": 56, "width": 56})
    return model(config), processor(pictures, words, image_seq_length=16)


def qwen(model, processor):
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    words, ids = tokenizer([*special, "<|video_pad|>"], pad_token="<|endoftext|>", eos_token="<|im_end|>")
    named = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    text = TEXT | {"vocab_size": len(words), "max_position_embeddings": 4096, "rope_parameters": MULTIMODAL_ROPE}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    kind = model.__mro__[1].config_class
    patch, videos = 14, hf.Qwen2VLVideoProcessor
    if kind is hf.Qwen2VLConfig:
        vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    elif kind is hf.Qwen2_5_VLConfig:
        vision |= {"fullatt_block_indexes": [1], "window_size": 112}
    else:
        patch, videos = 16, hf.Qwen3VLVideoProcessor
        vision |= {"num_position_embeddings": 64}
        text["rope_parameters"] = MULTIMODAL_ROPE | {"mrope_interleaved": True}
        if kind is hf.Qwen3VLConfig:
            vision["deepstack_visual_indexes"] = [0]
        else:
            linear = {f"linear_{part}_head_dim": 16 for part in ("key", "value")}
            linear |= {f"linear_num_{part}_heads": 2 for part in ("key", "value")}
            text |= {"layer_types": ["linear_attention", "full_attention"], **linear}
    config = kind(text_config=text, vision_config=vision | {"patch_size": patch}, **named)
    pictures = hf.Qwen2VLImageProcessor(
        patch_size=patch, merge_size=2, min_pixels=4 * (2 * patch) ** 2, max_pixels=64 * (2 * patch) ** 2
    )
    return model(config), processor(pictures, words, videos(), chat_template="{{ messages }}")


def idefics3(model, processor):
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    special = ["<pad>", "<|im_start|>", "<|begin_of_text|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>"]
    words, ids = tokenizer(
        [*special, "<global-img>", *tiles], pad_token="<pad>", eos_token="<end_of_utterance>", bos_token="<|im_start|>"
    )
    vision = VISION | {"image_size": 64, "patch_size": 8}
    kind = hf.ModernVBertConfig if "ModernVBert" in model.__name__ else hf.Idefics3Config
    if kind is hf.Idefics3Config:
        text = TEXT | {"model_type": "llama", "vocab_size": len(words), "num_key_value_heads": 2}
        more = {"scale_factor": 2}
    else:
        ends = {"cls_token_id": 1, "sep_token_id": 3, "bos_token_id": 1, "eos_token_id": 3}
        text = {k: v for k, v in TEXT.items() if k not in ("num_key_value_heads", "head_dim")}
        text |= {"model_type": "modernbert", "vocab_size": len(words), **ends}
        vision["model_type"] = "siglip_vision_model"
        more = {"pixel_shuffle_factor": 2}
    config = kind(image_token_id=ids["<image>"], pad_token_id=0, text_config=text, vision_config=vision, **more)
    pictures = hf.Idefics3ImageProcessor(size={"longest_edge": 256}, max_image_size={"longest_edge": 64})
    return model(config), processor(pictures, words, image_seq_len=16)


_MAKERS = {
    "paligemma": paligemma,
    "gemma3": gemma3,
    "qwen2_vl": qwen,
    "qwen2_5_vl": qwen,
    "qwen3_vl": qwen,
    "qwen3_5": qwen,
    "idefics3": idefics3,
    "modernvbert": idefics3,
}


def build(family, seed=0):
    """(model, processor) of a `colsearcher.retrieval.visual.families.Family`, random weights in float32."""
    torch.manual_seed(seed)
    model, processor = _MAKERS[family.model_type](getattr(engine, family.model), getattr(engine, family.processor))
    return model.eval(), processor


def save(family, folder: Path, seed=0) -> Path:
    """The checkpoint of a family in a folder."""
    model, processor = build(family, seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
