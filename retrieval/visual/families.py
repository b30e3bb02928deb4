"""The model families of colpali-engine, and which of them a checkpoint on the disk belongs to."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from colsearcher.indexes.errors import ModelProblem

Layout = Literal["square", "grid", "tiles"]


@dataclass(frozen=True)
class Family:
    """One kind of model.

    Attributes:
        name: what its authors call it.
        model: its class in `colpali_engine.models`.
        processor: the class of its processor there; BiPali's, which adds nothing, cannot be saved and loaded again.
        model_type: of the configuration that it shares with the language model it was made from.
        layout: how the page becomes patches; see `patches`.
        single: one vector per page and per query instead of many.
    """

    name: str
    model: str
    processor: str
    model_type: str
    layout: Layout
    single: bool = False


FAMILIES = (
    Family("ColPali", "ColPali", "ColPaliProcessor", "paligemma", "square"),
    Family("BiPali", "BiPali", "ColPaliProcessor", "paligemma", "square", single=True),
    Family("BiPaliProj", "BiPaliProj", "ColPaliProcessor", "paligemma", "square", single=True),
    Family("ColQwen2", "ColQwen2", "ColQwen2Processor", "qwen2_vl", "grid"),
    Family("BiQwen2", "BiQwen2", "BiQwen2Processor", "qwen2_vl", "grid", single=True),
    Family("ColQwen2.5", "ColQwen2_5", "ColQwen2_5_Processor", "qwen2_5_vl", "grid"),
    Family("BiQwen2.5", "BiQwen2_5", "BiQwen2_5_Processor", "qwen2_5_vl", "grid", single=True),
    Family("ColQwen3", "ColQwen3", "ColQwen3Processor", "qwen3_vl", "grid"),
    Family("BiQwen3", "BiQwen3", "BiQwen3Processor", "qwen3_vl", "grid", single=True),
    Family("ColQwen3.5", "ColQwen3_5", "ColQwen3_5Processor", "qwen3_5", "grid"),
    Family("BiQwen3.5", "BiQwen3_5", "BiQwen3_5Processor", "qwen3_5", "grid", single=True),
    Family("ColIdefics3", "ColIdefics3", "ColIdefics3Processor", "idefics3", "tiles"),
    Family("BiIdefics3", "BiIdefics3", "BiIdefics3Processor", "idefics3", "tiles", single=True),
    Family("ColGemma3", "ColGemma3", "ColGemmaProcessor3", "gemma3", "square"),
    Family("BiGemma3", "BiGemma3", "BiGemmaProcessor3", "gemma3", "square", single=True),
    Family("ColModernVBERT", "ColModernVBert", "ColModernVBertProcessor", "modernvbert", "tiles"),
    Family("BiModernVBERT", "BiModernVBert", "BiModernVBertProcessor", "modernvbert", "tiles", single=True),
)
# Layers that make many small vectors of hidden states; models with one vector per page have none.
_PROJECTIONS = ("custom_text_proj.", "linear.")


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a model, or an adapter to one."""
    return (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()


def base_of(folder: Path) -> str | None:
    """The folder or hub id of the model that an adapter belongs to; None for a whole model."""
    config = folder / "adapter_config.json"
    return _read(config)["base_model_name_or_path"] if config.is_file() else None


def family_of(folder: Path, base: Path) -> Family:
    """The family of a checkpoint.

    The class that saved the base model says it. Where that is the plain language model, the projection decides: a checkpoint
    that has one gives many vectors per page.

    Args:
        folder: the checkpoint, a whole model or an adapter.
        base: the folder of the whole model, `folder` itself where it is one.

    Raises:
        ModelProblem: it is none of `FAMILIES`.
    """
    config = _read(base / "config.json")
    saved_by = next(iter(config.get("architectures") or ()), "")
    for family in FAMILIES:
        if family.model == saved_by:
            return family
    kinds = [family for family in FAMILIES if family.model_type == config.get("model_type")]
    if not kinds:
        known = ", ".join(family.name for family in FAMILIES)
        raise ModelProblem(
            f"{folder} is a {saved_by or config.get('model_type', 'model of no kind')}, which is no page embedder; "
            f"name a checkpoint of one of {known}."
        )
    many = any(part in name for name in _weight_names(folder) | _weight_names(base) for part in _PROJECTIONS)
    return next(family for family in kinds if family.single is not many)


def _weight_names(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            names |= json.loads(file.read(length)).keys()
    return names


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelProblem(f"{path} cannot be read ({error}); download the checkpoint again.") from None
