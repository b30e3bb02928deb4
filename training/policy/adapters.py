"""A policy made ready to be trained, with LoRA or in all its weights, and saved so that `load_policy` finds it again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from colsearcher.agent.policy import Device, Policy, adapter_base, load_policy

LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EYES = r".*\bvisual\..*"
"""Left as they are by LoRA in a policy that sees: vLLM takes no adapters there."""


def trainable(name: str, lora_rank: int, device: Device = "auto", seed: int = 0) -> Policy:
    """Load a policy whose weights are to change.

    Args:
        name: as `load_policy` takes it. An adapter is trained further, at its own rank, not merged.
        lora_rank: of new adapters; 0 trains all weights, in float32.
        seed: of the weights of new adapters.

    Raises:
        ModelProblem: see `load_policy`.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    base = adapter_base(name)
    policy = load_policy(base or name, device=device)
    if not lora_rank:
        whole = load_policy(name, device=device) if base else policy
        # peft leaves the weights that it merged an adapter into as if they were not to change.
        return replace(whole, model=whole.model.float().requires_grad_(True), dtype="float32")
    policy.model.requires_grad_(False)
    model: Any
    if base:
        model = PeftModel.from_pretrained(policy.model, name, is_trainable=True)
        # Where the base lies, not its name, which peft would look for on a hub whenever it saves.
        model.peft_config["default"].base_model_name_or_path = policy.model.name_or_path
    else:
        config = LoraConfig(
            r=lora_rank,
            lora_alpha=2 * lora_rank,
            target_modules=LORA_TARGETS,
            exclude_modules=EYES if policy.cutter else None,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = get_peft_model(policy.model, config)
    return replace(policy, model=model, source=base or name)


def save_policy(policy: Policy, folder: Path) -> None:
    """Write what was trained: an adapter that names its base, or a whole model with tokenizer and processor."""
    from peft import PeftModel

    unfinished = folder.with_name(folder.name + ".new")
    model: Any = policy.model
    if isinstance(model, PeftModel):
        model.save_pretrained(str(unfinished), selected_adapters=["default"])
        _name_base(unfinished / "adapter_config.json", policy.source)
    else:
        model.save_pretrained(str(unfinished))
        policy.tokenizer.save_pretrained(str(unfinished))
        if policy.cutter is not None:
            policy.cutter.processor.save_pretrained(str(unfinished))
    unfinished.replace(folder)


def merge_policy(trained: Path, folder: Path, device: Device = "cpu") -> None:
    """Write an adapter and its base as one plain model."""
    policy = load_policy(str(trained), device=device)
    save_policy(policy, folder)


def _name_base(config: Path, source: str) -> None:
    """Say in an adapter's configuration what its base is to `load_policy`, not where it happened to lie."""
    if source:
        base = str(Path(source).resolve()) if Path(source).is_dir() else source
        values = json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
        config.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
