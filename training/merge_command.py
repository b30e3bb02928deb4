"""`colsearcher train merge`: a run's model as one plain checkpoint, of a retriever or of a policy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from colsearcher.agent.flags import argument, option
from colsearcher.agent.terminal import show, tell
from colsearcher.indexes.errors import UserError

_NEWEST_FIRST = ("answer/model", "retrieval/model", "model")


@dataclass(frozen=True)
class TrainMerge:
    """Write the model of a run of `train retriever`, `train sft` or `train policy` (of its last stage that is done) as a plain
    checkpoint: adapters become part of the weights; processor and tokenizer come along."""

    trained: Path = argument("a run folder, or the folder of an adapter")
    output: Path = option("the folder to write, which is made", short="-o", metavar="FOLDER")
    device: Literal["cpu", "cuda"] = option("where to do it", default="cpu")

    def run(self) -> int:
        from colsearcher.training.policy.adapters import merge_policy
        from colsearcher.training.retriever.fine_tune import merge

        if self.output.exists() and (not self.output.is_dir() or any(self.output.iterdir())):
            raise UserError(f"{self.output} is not empty; name a new folder.")
        source = trained_model(self.trained)
        kind = "policy" if is_policy(source) else "retriever"
        tell(f"merging the {kind} {source}")
        if kind == "policy":
            merge_policy(source, self.output, self.device)
        else:
            merge(source, self.output, device=self.device)
        show(str(self.output))
        return 0


def trained_model(folder: Path) -> Path:
    """The folder of the model: that of a run's last stage that is done, or what was named.

    Raises:
        UserError: there is nothing, or a run that has no model yet.
    """
    for part in _NEWEST_FIRST:
        if (folder / part).is_dir():
            return folder / part
    if any((folder / stage / "metrics.jsonl").is_file() for stage in ("answer", "retrieval", ".")):
        raise UserError(f"The run in {folder} has no model yet; let it end first (--resume goes on with it).")
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; name a run folder or the folder of an adapter.")
    return folder


def is_policy(model: Path) -> bool:
    """Whether a model's folder holds a policy: its adapter is one of a language model, or its run trained a policy."""
    adapter, run = model / "adapter_config.json", model.parent / "config.json"
    if adapter.is_file():
        return json.loads(adapter.read_text(encoding="utf-8")).get("task_type") == "CAUSAL_LM"
    return model.name == "model" and run.is_file() and "policy" in json.loads(run.read_text(encoding="utf-8"))
