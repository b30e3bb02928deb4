"""Put a trained adapter where the embedded policy is: agent/embedded/.

    .venv/bin/python dev/ship_policy.py runs/agent/answer runs/cold runs/agent/retrieval

The first run's model is shipped, in bfloat16; of it and of the runs that led to it configuration and metrics come along. Prints
the sha256 that `agent/embedded_policy.py` pins.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from colsearcher.agent.embedded_policy import sha256_of

TARGET = Path(__file__).resolve().parent.parent / "agent" / "embedded"
# Of what peft wrote, what another machine needs to load it.
KEPT = ("base_model_name_or_path", "peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "bias")


def main(shipped: Path, *led_to_it: Path) -> None:
    weights = load_file(shipped / "model" / "adapter_model.safetensors")
    TARGET.mkdir(exist_ok=True)
    save_file({name: weight.to(torch.bfloat16) for name, weight in weights.items()}, TARGET / "adapter_model.safetensors")
    (TARGET / "adapter_model.safetensors").chmod(0o644)
    config = json.loads((shipped / "model" / "adapter_config.json").read_text(encoding="utf-8"))
    kept = {name: sorted(config[name]) if name == "target_modules" else config[name] for name in KEPT}
    (TARGET / "adapter_config.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(TARGET / "evidence", ignore_errors=True)
    for run in (*led_to_it, shipped):
        own = TARGET / "evidence" / run.name
        own.mkdir(parents=True)
        for name in ("config.json", "metrics.jsonl"):
            shutil.copyfile(run / name, own / name)
    sys.stdout.write(sha256_of(TARGET / "adapter_model.safetensors") + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
