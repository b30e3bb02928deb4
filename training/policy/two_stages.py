"""The stages one after the other: what the first has learned the next begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from colsearcher.agent.policy import Device
from colsearcher.training.policy.recipe import Recipe
from colsearcher.training.policy.samplers import Sampler
from colsearcher.training.policy.stage_run import StageData, StageResult, run_stage


def run_stages(
    recipes: Sequence[Recipe],
    start: str,
    data: StageData,
    folder: Path,
    config: Mapping[str, Any],
    *,
    resume: bool,
    tell: Callable[[str], None],
    device: Device = "auto",
    sampler: Sampler | None = None,
) -> dict[str, StageResult]:
    """Do each stage in a folder of its own under `folder`; with `resume` what is done is not done again.

    Raises:
        UserError, ModelProblem: see `run_stage`.
    """
    results: dict[str, StageResult] = {}
    policy, before = start, None
    for recipe in recipes:
        own = folder / recipe.stage
        begun = resume and (own / "config.json").is_file()
        result = run_stage(
            recipe, policy, data, own, config, resume=begun, tell=tell, known_before=before, device=device, sampler=sampler
        )
        results[recipe.stage] = result
        policy, before = str(result.model), own / "after"
    return results
