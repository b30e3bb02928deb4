"""What samples while a policy is trained: the trainer's own model, or a vLLM that is handed each new adapter.

vLLM keeps the base and takes adapters by their folder, which it has to be able to read; between two batches only those few
megabytes change hands. To train all weights is left to transformers.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from accelerate.utils import broadcast_object_list

from colsearcher.agent.engine import Engine
from colsearcher.agent.engines import load_engine
from colsearcher.agent.policy import ADAPTER_CONFIG, Device, Policy, adapter_base, load_policy
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.indexes.errors import ModelProblem, UserError
from colsearcher.training import processes

Save = Callable[[str], None]  # writes what is trained into a folder; every process takes part
Renew = Callable[[Save], None]  # called before each batch: the weights are others than at the last


class Sampler(Protocol):
    """Engines for a stage."""

    def of_stored(self, policy: str) -> Engine:
        """For a policy as `load_policy` takes it; the engine that was given before is no longer its policy's."""
        ...

    def of_trained(self, policy: Policy) -> tuple[Engine, Renew]:
        """For a policy whose weights change, and what to call before each batch."""
        ...


class AdaptedEngine(Engine, Protocol):
    """An engine that takes adapters while it runs; see `VllmServerEngine`, `VllmEngine`."""

    def add_adapter(self, name: str, folder: Path) -> None: ...

    def use_adapter(self, name: str | None) -> None: ...

    def drop_adapter(self, name: str) -> None: ...


class TransformersSampler:
    """The very model that is trained."""

    def __init__(self, device: Device = "auto") -> None:
        self._device: Device = device

    def of_stored(self, policy: str) -> Engine:
        return TransformersEngine(load_policy(policy, device=self._device))

    def of_trained(self, policy: Policy) -> tuple[Engine, Renew]:
        engine = TransformersEngine(policy)
        return engine, lambda save: engine.forget()  # keys and values are of the weights before the last step


class VllmSampler:
    """A vLLM that holds the base of what is trained.

    Args:
        base: as `load_policy` takes it.
        folder: where adapters are written for vLLM to read; each is deleted once vLLM has it.
    """

    def __init__(self, engine: AdaptedEngine, base: str, folder: Path) -> None:
        self._engine, self._base, self._folder = engine, base, folder
        # Of this run and no other: vLLM's prefix cache knows an adapter by its name.
        mark = [uuid.uuid4().hex[:8]]
        if processes.count() > 1:
            broadcast_object_list(mark)
        self._mark = mark[0]
        self._trained = self._stored = 0
        self._used: str | None = None

    def of_stored(self, policy: str) -> Engine:
        """
        Raises:
            ModelProblem: it is no adapter on the base, nor the base.
        """
        base = adapter_base(policy)
        if _place(base or policy) != _place(self._base):
            raise ModelProblem(f"vLLM holds {self._base}, not {base or policy}; begin with a policy on {self._base}.")
        self._stored += 1  # apart from the others: only the first process evaluates
        self._use(f"{self._mark}-stored-{self._stored}", Path(policy).resolve() if base else None)
        return self._engine

    def of_trained(self, policy: Policy) -> tuple[Engine, Renew]:
        def renew(save: Save) -> None:
            self._trained += 1
            name = f"{self._mark}-{self._trained}"
            folder = self._folder / name
            save(str(folder))
            processes.wait()
            self._use(name, folder.resolve())
            processes.wait()
            if processes.is_first():
                shutil.rmtree(folder)

        return self._engine, renew

    def _use(self, name: str, folder: Path | None) -> None:
        before, self._used = self._used, None if folder is None else name
        if folder is not None:
            self._engine.add_adapter(name, folder)
        self._engine.use_adapter(self._used)
        if before is not None:
            self._engine.drop_adapter(before)


def open_sampler(
    engine: str, policy: str, lora_rank: int, folder: Path, device: Device = "auto", *, sees: bool = False
) -> Sampler:
    """What samples for a run.

    Args:
        engine: `transformers`, or vLLM as `load_engine` takes it.
        policy: what training begins with.
        lora_rank: of new adapters.
        folder: see `VllmSampler`.
        sees: whether the policy will be shown pictures.

    Raises:
        UserError: the engine cannot follow what is trained.
        ModelProblem: see `load_engine`.
    """
    if engine == "transformers":
        return TransformersSampler(device)
    if engine.startswith("openai:"):
        raise UserError(f"{engine} does not say which tokens it sampled; train with --engine transformers, vllm or http://….")
    if not lora_rank:
        raise UserError(
            f"--engine {engine} takes adapters, and lora_rank=0 trains all weights; give a rank with --set, or sample with "
            "--engine transformers."
        )
    base = adapter_base(policy)
    rank = int(json.loads((Path(policy) / ADAPTER_CONFIG).read_text(encoding="utf-8"))["r"]) if base else lora_rank
    loaded = load_engine(base or policy, engine, adapter_rank=rank)
    if sees and not loaded.engine.sees:
        raise UserError(
            f"{policy} sees pages, which {engine} does not show it; start that with --enable-scale-out (vLLM 0.31)."
        )
    return VllmSampler(loaded.engine, base or policy, folder)  # type: ignore[arg-type]  # both of vLLM's take adapters


def _place(policy: str) -> str:
    return str(Path(policy).resolve()) if Path(policy).is_dir() else policy
