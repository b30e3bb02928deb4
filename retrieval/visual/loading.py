"""From the name of a checkpoint to a model that is ready to look at pages.

A name is a folder or a hub id, with what else shapes its vectors: `NAME[@REVISION][?max_pixels=N]`. LoRA adapters bring their
base model with them and are merged into its weights in memory.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from colsearcher.indexes.errors import ModelProblem
from colsearcher.retrieval.visual.families import Family, base_of, family_of, is_checkpoint

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"(?P<source>[^?]+?)(?:@(?P<commit>[\w.-]+))?(?:\?max_pixels=(?P<pixels>\d+))?")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SMALL = ("*.json", "*.jinja", "*.model", "*.txt")
# What shapes vectors beside the weights.
_SETTINGS = (
    *("config.json", "adapter_config.json", "processor_config.json", "preprocessor_config.json", "tokenizer.json"),
    *(
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.json",
        "vocab.json",
        "merges.txt",
    ),
)
# Weights up to this size are hashed whole; of larger files so many slices of so many bytes are, spread evenly.
_HASHED_WHOLE = 256 << 20
_SLICES, _SLICE = 256, 1 << 16
# Names of weights before transformers 4.52, where a class of colpali-engine does not say them itself.
_OLD_NAMES = {
    r"^model\.(layers|embed_tokens|norm)": r"language_model.\1",
    r"^model\.(visual|language_model)": r"\1",
}
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class CheckpointName:
    """A name taken apart.

    Attributes:
        source: a folder, or a hub id.
        commit: a revision on the hub, None for the newest.
        max_pixels: the most pixels of a page that the model looks at, None for its own setting.
    """

    source: str
    commit: str | None = None
    max_pixels: int | None = None

    @classmethod
    def parse(cls, name: str) -> Self:
        """
        >>> CheckpointName.parse("vidore/colqwen2.5-v0.2@9b1a?max_pixels=600000")
        CheckpointName(source='vidore/colqwen2.5-v0.2', commit='9b1a', max_pixels=600000)
        """
        found = _NAME.fullmatch(name)
        if not found:
            raise ModelProblem(f"«{name}» is no embedder; write NAME, NAME@REVISION or NAME?max_pixels=600000.")
        folder = Path(name.partition("?")[0])
        source, commit = (str(folder), None) if folder.is_dir() else (found["source"], found["commit"])
        return cls(source, commit, int(found["pixels"]) if found["pixels"] else None)

    @property
    def is_folder(self) -> bool:
        return Path(self.source).is_dir()

    def __str__(self) -> str:
        source = str(Path(self.source).resolve()) if self.is_folder else self.source
        commit = f"@{self.commit}" if self.commit else ""
        return source + commit + (f"?max_pixels={self.max_pixels}" if self.max_pixels else "")


def may_be_checkpoint(name: str) -> bool:
    """Whether a name could be that of a checkpoint: a folder with a model in it, or the form of a hub id."""
    source = name.partition("?")[0]
    return is_checkpoint(Path(source)) or bool(_HUB_ID.fullmatch(source.partition("@")[0]))


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model.

    Attributes:
        name: its canonical name: an absolute folder, or a hub id with its commit.
        family: what it is.
        model: the colpali-engine model, in evaluation mode.
        processor: the colpali-engine processor that goes with it.
        folder: where the files lie.
        revision: hash of the weights and of the settings that shape the vectors.
        device: where the model is.
        how: device, number format and attention, for the line that says what was chosen.
    """

    name: str
    family: Family
    model: Any
    processor: Any
    folder: Path
    revision: str
    device: torch.device
    how: str


def load_checkpoint(name: str, *, device: str = "auto", dtype: str = "auto") -> Checkpoint:
    """Load a checkpoint of any family.

    Args:
        name: see `CheckpointName`.
        device: "cpu", "cuda", "cuda:1", or "auto": a GPU where there is one.
        dtype: "fp32", "bf16", "fp16", or "auto": bf16 where the device computes with it.

    Raises:
        ModelProblem: there is no such checkpoint, it is of no known family, or its weights do not fit its model.
    """
    import colpali_engine.models
    import torch
    from transformers.utils import logging

    # What matters of a loading report is checked here.
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    parsed = CheckpointName.parse(name)
    folder, parsed = _folder(parsed)
    base = base_of(folder)
    base_folder = _folder(CheckpointName.parse(base))[0] if base else folder
    family = family_of(folder, base_folder)
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    number = _dtype(dtype, where)
    attention = "flash_attention_2" if where.type == "cuda" and importlib.util.find_spec("flash_attn") else "sdpa"
    model = _model(getattr(colpali_engine.models, family.model), folder, number, attention, adapter=base is not None)
    processor = _processor(getattr(colpali_engine.models, family.processor), folder, base_folder)
    if parsed.max_pixels:
        _limit_pixels(processor, family, parsed.max_pixels)
    chosen = f"{where.type} ({torch.cuda.get_device_name(where)}, " if where.type == "cuda" else "cpu ("
    short = next(key for key, value in _DTYPES.items() if getattr(torch, value) == number)
    return Checkpoint(
        str(parsed),
        family,
        model.to(where).eval(),
        processor,
        folder,
        _revision(parsed, [folder, base_folder] if base else [folder]),
        where,
        f"{family.name} on {chosen}{short}, {attention})",
    )


def _folder(name: CheckpointName) -> tuple[Path, CheckpointName]:
    """Where the files of a checkpoint lie, downloaded if they have to be, and its name with the commit that they are of."""
    if name.is_folder:
        folder = Path(name.source).resolve()
        if not is_checkpoint(folder):
            raise ModelProblem(f"{folder} holds no model: it has neither a config.json nor an adapter_config.json.")
        return folder, name
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.safetensors", *_SMALL]
    try:
        folder = Path(snapshot_download(name.source, revision=name.commit, allow_patterns=patterns))
    except HFValidationError:
        raise ModelProblem(f"«{name.source}» is neither a folder nor a hub id such as vidore/colqwen2.5-v0.2.") from None
    except LocalEntryNotFoundError:
        raise ModelProblem(
            f"The checkpoint {name.source} is not on this machine and the hub cannot be reached; "
            "download it where there is a network, or give the folder that holds it."
        ) from None
    except HfHubHTTPError as error:
        reason = str(error).splitlines()[0]
        raise ModelProblem(f"The hub does not give {name.source} ({reason}); check the name and your access to it.") from None
    return folder, CheckpointName(name.source, folder.name, name.max_pixels)


def _model(kind: Any, folder: Path, dtype: torch.dtype, attention: str, *, adapter: bool) -> Any:
    import torch

    names = getattr(kind, "_checkpoint_conversion_mapping", _OLD_NAMES)
    try:
        model, info = kind.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, output_loading_info=True, key_mapping=dict(names)
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelProblem(f"{folder} cannot be loaded as {kind.__name__} ({str(error).splitlines()[0]}).") from None
    if model.config.model_type == "paligemma":
        # Half a gigabyte that would say which word comes next.
        model.model.lm_head = torch.nn.Identity()
    absent = sorted(name for name in info["missing_keys"] if not name.endswith("lm_head.weight"))
    if absent:
        raise ModelProblem(
            f"{folder} lacks {len(absent)} weights of {kind.__name__} (first: {absent[0]}), which would stay random; "
            "name a checkpoint that was trained to retrieve."
        )
    if adapter:
        _merge(model, folder)
    return model


def _merge(model: Any, folder: Path) -> None:
    """Add an adapter to the weights it adapts."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    trained = [bool(p.any()) for name, p in model.named_parameters() if ".lora_B." in name]
    if not layers or sum(trained) < len(trained) / 2:
        raise ModelProblem(
            f"The adapter in {folder} changes {sum(trained)} of {len(trained)} layers of its base model: it was not trained, "
            "or its weights did not find their layers."
        )
    for layer in layers:
        layer.merge()


def _processor(kind: Any, folder: Path, base: Path) -> Any:
    for place in (folder, base):
        if any((place / file).is_file() for file in ("processor_config.json", "preprocessor_config.json")):
            try:
                return kind.from_pretrained(place)
            except (OSError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise ModelProblem(f"The processor in {place} cannot be loaded as {kind.__name__} ({reason}).") from None
    raise ModelProblem(f"{folder} has no processor_config.json, so that nothing says how it sees pictures.")


def _limit_pixels(processor: Any, family: Family, pixels: int) -> None:
    image_processor = processor.image_processor
    if family.layout == "grid":
        image_processor.size["longest_edge"] = pixels
    elif family.layout == "tiles":
        edge = image_processor.max_image_size["longest_edge"]
        image_processor.size["longest_edge"] = max(edge, int(pixels**0.5) // edge * edge)
    else:
        raise ModelProblem(f"A {family.name} looks at every page in one size; leave ?max_pixels out.")


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    import torch

    if dtype == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
        dtype = "bf16" if fast else "fp32"
    if dtype not in _DTYPES:
        raise ModelProblem(f"There is no number format «{dtype}»; choose auto, {', '.join(_DTYPES)}.")
    number: torch.dtype = getattr(torch, _DTYPES[dtype])
    return number


def _revision(name: CheckpointName, folders: list[Path]) -> str:
    digest = hashlib.sha256(f"max_pixels={name.max_pixels}".encode())
    for folder in folders:
        for path in sorted(folder.glob("*")):
            if path.suffix in (".safetensors", ".model", ".jinja") or path.name in _SETTINGS:
                digest.update(f"{path.name} {path.stat().st_size}\n".encode())
                _update(digest, path)
    return digest.hexdigest()


def _update(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _HASHED_WHOLE:
            digest.update(file.read())
            return
        for i in range(_SLICES):
            file.seek(i * (size - _SLICE) // (_SLICES - 1))
            digest.update(file.read(_SLICE))
