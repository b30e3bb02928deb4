"""Write a full-size ColQwen2.5-3B or ColPali-3B with random weights, to time embedding on a machine that has no hub.

    PYTHONPATH=tests python dev/full_size_checkpoint.py ColQwen2.5 build/colqwen2.5-3b
    colsearcher bench embed --embedder build/colqwen2.5-3b PDFS/

Shapes are those of Qwen2.5-VL-3B and PaliGemma-3B-448; the tokenizer is a stand-in, its embedding table has the real size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import colpali_engine.models as engine
import torch
import transformers as hf
from tiny_checkpoints import paligemma, qwen

QWEN_3B = {
    "text_config": {
        "vocab_size": 151_936,
        "hidden_size": 2_048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 128_000,
        "pad_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1_280,
        "intermediate_size": 3_420,
        "num_heads": 16,
        "out_hidden_size": 2_048,
        "patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}
PALI_3B = {
    "projection_dim": 2_048,
    "text_config": {
        "model_type": "gemma",
        "vocab_size": 257_216,
        "hidden_size": 2_048,
        "intermediate_size": 16_384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "pad_token_id": 0,
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1_152,
        "intermediate_size": 4_304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 448,
        "patch_size": 14,
        "projection_dim": 2_048,
    },
}
# The visual tokens that ColQwen2.5 was trained with.
QWEN_TOKENS = 768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=("ColQwen2.5", "ColPali"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.family == "ColPali":
        small, processor = paligemma(engine.ColPali, engine.ColPaliProcessor)
        config = hf.PaliGemmaConfig(image_token_index=small.config.image_token_id, **PALI_3B)
        processor.image_processor.size = {"height": 448, "width": 448}
        processor.image_seq_length = processor.image_processor.image_seq_length = 1_024
    else:
        small, processor = qwen(engine.ColQwen2_5, engine.ColQwen2_5_Processor)
        names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
        config = hf.Qwen2_5_VLConfig(**QWEN_3B, **{name: getattr(small.config, name) for name in names})
        processor.image_processor.size["longest_edge"] = QWEN_TOKENS * 28 * 28
    torch.set_default_dtype(torch.bfloat16)
    model = type(small)(config)
    model.save_pretrained(given.folder)
    processor.save_pretrained(given.folder)


if __name__ == "__main__":
    main()
