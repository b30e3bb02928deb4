"""Run mteb's tasks by name with an embedder: ViDoRe V1 to V3, or any other that asks in words for pages or texts.

mteb loads the data (from the Hugging Face hub), computes the metrics and writes the results; `mteb_adapter` does the rest.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.ranking import Ranking
from colsearcher.retrieval.embedder import PageEmbedder
from colsearcher.training.mteb_adapter import IndexedModel, load_mteb

VIDORE = ("ViDoRe(v1)", "ViDoRe(v2)", "ViDoRe(v3)")


def find_tasks(names: Sequence[str]) -> list[Any]:
    """mteb's tasks by their names, or by the name of a benchmark for all of its tasks; none twice. Nothing is downloaded.

    Raises:
        MissingExtra: mteb is not installed.
        UserError: there is no such task, or it is not one of asking in words for pages or texts.
    """
    mteb = load_mteb()
    tasks: dict[str, Any] = {}
    for name in names:
        for task in _named(mteb, name):
            if not _is_retrieval(mteb, task):
                raise UserError(f"«{task.metadata.name}» does not ask in words for pages or texts; name a retrieval task.")
            tasks[task.metadata.name] = task
    return list(tasks.values())


def _is_retrieval(mteb: Any, task: Any) -> bool:
    if not isinstance(task, mteb.abstasks.AbsTaskRetrieval):
        return False
    kind = mteb.types.PromptType
    queries, documents = (task.metadata.get_modalities(side) for side in (kind.query, kind.document))
    return set(queries) == {"text"} and set(documents) <= {"text", "image"}


def _named(mteb: Any, name: str) -> list[Any]:
    try:
        return [mteb.get_task(name)]
    except KeyError:
        pass
    try:
        return list(mteb.get_benchmark(name).tasks)
    except KeyError:
        known = [*VIDORE, *(task.metadata.name for version in VIDORE for task in mteb.get_benchmark(version).tasks)]
        close = difflib.get_close_matches(name, known, 1)
        fix = f"did you mean {close[0]}?" if close else f"ViDoRe's are those of {', '.join(VIDORE)}."
        raise UserError(f"mteb has no task and no benchmark «{name}»; {fix}") from None


@dataclass(frozen=True)
class TaskScores:
    """What mteb makes of one task, the mean over its splits and languages.

    Attributes:
        main: mteb's name of the score that the task is known by; ViDoRe V1 and V2 have ndcg_at_5, V3 ndcg_at_10.
    """

    task: str
    main: str
    main_score: float
    ndcg_5: float
    ndcg_10: float
    recall_5: float


def evaluate_tasks(
    embedder: PageEmbedder,
    tasks: Sequence[Any],
    out: Path,
    *,
    ranking: Ranking = "late",
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[list[TaskScores], dict[str, str]]:
    """Run tasks; mteb writes `results/MODEL/REVISION/TASK.json` under `out`, and what is there already is not run again.

    Returns:
        The scores of the tasks, and of those whose data cannot be had the reason.

    Raises:
        UserError: `out` cannot be written.
    """
    mteb = load_mteb()
    try:
        cache = mteb.ResultCache(out)
    except OSError as error:
        raise UserError(f"{out} cannot be made ({error.strerror}); name a folder that you may write.") from None
    scores, missing = [], {}
    with IndexedModel(embedder, ranking=ranking, tell=tell) as model:
        for task in tasks:
            name = task.metadata.name
            old = cache.load_task_result(name, model.mteb_model_meta)
            if old is not None and not old.get_missing_evaluations(task):
                tell(f"{name}: {cache.get_task_result_path(name, model.mteb_model_meta)} is there, not run again")
            else:
                try:
                    task.load_data()
                except OSError as error:
                    missing[name] = f"the data cannot be loaded: {' '.join(str(error).split())}"
                    tell(f"{name}: {missing[name]}")
                    continue
            result = mteb.evaluate(model, task, cache=cache, co2_tracker=False, show_progress_bar=False)
            if task.data_loaded:
                task.unload_data()
            scores.append(_scores(task, result.task_results[0]))
    return scores, missing


def _scores(task: Any, result: Any) -> TaskScores:
    values = [
        float(result.get_score(getter=lambda scores, name=name: scores[name]))
        for name in ("main_score", "ndcg_at_5", "ndcg_at_10", "recall_at_5")
    ]
    return TaskScores(task.metadata.name, task.metadata.main_score, *values)
