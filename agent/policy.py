"""The policy: the language model that searches and answers, and where its weights come from.

`load_policy("embedded")` needs no network (see `embedded_policy`). Any other name is a local folder or a hub id. What this
file leaves out: sampling and the key-value cache (see `transformers_engine`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from colsearcher.agent.embedded_policy import DEFAULT, EMBEDDED, embedded_folder, no_progress_bars, sha256_of
from colsearcher.agent.pictures import MODEL_TYPES, PictureCutter
from colsearcher.indexes.errors import ModelProblem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_CONFIG = "adapter_config.json"

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Policy:
    """A loaded policy.

    Attributes:
        name, revision: go into traces.
        cutter: of a policy that sees, what cuts page images up for it.
        source: what `load_policy` finds it by: an embedded policy's name, a folder or a hub id.
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


def load_policy(name: str = DEFAULT, *, device: Device = "auto", local: bool = False) -> Policy:
    """Load a policy by name.

    Args:
        name: `embedded-searcher`, `embedded` (the same before it was trained), a folder with a transformers model or with a
            LoRA adapter, whose configuration names its base, or a hub id such as `Qwen/Qwen2.5-3B-Instruct`.
        device: `auto` takes the first CUDA device when there is one.
        local: never ask the hub; a hub id then has to be in the local cache already.

    Raises:
        ModelProblem: the weights are missing, are not the pinned ones, or cannot be read.
    """
    place, dtype, why = _placement(device)
    if pinned := EMBEDDED.get(name):
        folder, how = embedded_folder(name, dtype)
        model, tokenizer, _ = _load_folder(str(folder), place, dtype, offline=True)
        reason = f"embedded, {how}; {why}"
        return Policy(pinned.title, pinned.sha256, model, tokenizer, place, dtype, reason, source=name)
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
    config = Path(name) / ADAPTER_CONFIG
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
    revision = sha256_of(folder / "adapter_model.safetensors")
    reason = f"adapter on {named}; {base.reason}"
    return replace(base, name=folder.name, revision=revision, model=model.eval(), reason=reason, source=str(folder))


def policy_source(name: str) -> str:
    """The folder or hub id that another program, such as vLLM, loads a policy from.

    Raises:
        ModelProblem: the embedded policy is not installed.
    """
    return str(embedded_folder(name, "bfloat16")[0]) if name in EMBEDDED else name


def policy_title(name: str) -> str:
    """What a policy is called in traces."""
    return EMBEDDED[name].title if name in EMBEDDED else name


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
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    try:
        with no_progress_bars():
            config = _config(name, offline)
            tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=offline)
            kind = AutoModelForImageTextToText if config.model_type in MODEL_TYPES else AutoModelForCausalLM
            model = kind.from_pretrained(name, local_files_only=offline, dtype=getattr(torch, dtype))
            cutter = _cutter(config, name, offline)
    except (OSError, ValueError) as problem:
        raise _not_found(name, offline, problem) from problem
    model.to(place)  # type: ignore[arg-type]  # the stub of transformers' wrapper lost the argument's type
    return model.eval(), tokenizer, cutter


def _not_found(name: str, offline: bool, problem: Exception) -> ModelProblem:
    first = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
    where = "in the local cache" if offline else "on the hub"
    return ModelProblem(
        f"The policy «{name}» is neither a model folder nor found {where} ({first}). "
        "Give --policy a folder, a hub id, or leave it out for the embedded one."
    )


def sees_pages(name: str, *, local: bool = False) -> bool:
    """Whether a policy, as `load_policy` takes it, is one that sees; nothing but its configuration is looked at.

    Raises:
        ModelProblem: it has none.
    """
    source = policy_source(adapter_base(name) or name)
    offline = local or Path(source).is_dir()
    try:
        return _config(source, offline).model_type in MODEL_TYPES
    except (OSError, ValueError) as problem:
        raise _not_found(source, offline, problem) from problem


def picture_cutter(name: str, *, offline: bool) -> PictureCutter | None:
    """What cuts images up for the policy in a folder or on a hub; None for one that does not see."""
    return _cutter(_config(name, offline), name, offline)


def _config(name: str, offline: bool) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(name, local_files_only=offline)


def _cutter(config: Any, name: str, offline: bool) -> PictureCutter | None:
    from transformers import AutoImageProcessor

    if config.model_type not in MODEL_TYPES:
        return None
    processor = AutoImageProcessor.from_pretrained(name, local_files_only=offline)
    tokens = (config.vision_start_token_id, config.image_token_id, config.vision_end_token_id, config.video_token_id)
    return PictureCutter(processor, *tokens)
