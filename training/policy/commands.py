"""`colsearcher train sft`, `train policy` and `train report`."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from colsearcher.agent.flags import argument, option
from colsearcher.agent.range import COUNT, POSITIVE, SEED
from colsearcher.agent.terminal import show, show_json, tell
from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    from colsearcher.training.question import Question


@dataclass(frozen=True)
class TrainSft:
    """Cold start: teach a policy the format, searching and citing by examples before it learns from rewards. Examples are made
    from questions whose gold pages are known, by real searches in --index or --search; those that do not find what the answer
    needs are dropped. Only the policy's own tokens are learned. The run folder keeps config.json, env.json, examples.jsonl,
    metrics.jsonl, the model and what --resume needs."""

    qa: Path = option("questions with gold pages or context paragraphs", metavar="QA.jsonl")
    out: Path = option("the run folder, which is made", metavar="runs/NAME")
    index: Path | None = option("the index to search", default=None, metavar="DIR")
    search: str | None = option("in place of an index: a file of passages (default: the questions' own)", default=None)
    policy: str = option("embedded, a model folder or a hub id", default="embedded")
    exclude: tuple[Path, ...] = option("questions to leave out by their words (may be given again)", default=(), metavar="QA")
    limit: int | None = option("at most so many examples", default=None, metavar="N", within=COUNT)
    lora_rank: int = option("rank of the adapters", default=16, metavar="R", within=COUNT)
    full: bool = option("train all weights, no adapters", default=False)
    epochs: float = option("passes over the examples", default=2.0, metavar="N", within=POSITIVE)
    steps: int | None = option("optimizer steps, instead of --epochs", default=None, metavar="N", within=COUNT)
    batch: int = option("examples per step", default=16, metavar="N", within=COUNT)
    at_once: int = option("examples in one forward pass", default=2, metavar="N", within=COUNT)
    lr: float = option("highest learning rate", default=2e-4, metavar="RATE", within=POSITIVE)
    max_searches: int = option("at most so many searches", default=3, metavar="N", within=COUNT)
    documents: int = option("pages per search", default=3, metavar="N", within=COUNT)
    document_tokens: int = option("tokens of a search's pages", default=360, metavar="N", within=COUNT)
    save_every: int = option("steps between two states to resume from", default=10, metavar="N", within=COUNT)
    seed: int = option("of the order and of new adapters", default=0, within=SEED)
    resume: bool = option("go on with the run in --out", default=False)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.agent.record import Budgets
        from colsearcher.agent.source import Place, open_source
        from colsearcher.agent.transformers_engine import TransformersEngine
        from colsearcher.training import processes
        from colsearcher.training.policy.adapters import trainable
        from colsearcher.training.policy.cold_run import ColdRun, cold_start, make_examples, without_asked
        from colsearcher.training.policy.cold_start import Example
        from colsearcher.training.policy.sft import Cold
        from colsearcher.training.questions import load_questions

        questions = load_questions(self.qa)
        kept = without_asked(questions, _all(self.exclude))
        own = all(question.context for question in questions)
        if self.index is None and self.search is None and not own:
            raise UserError(f"The questions of {self.qa} bring no paragraphs; name what to search with --index or --search.")
        place = Place.parse(self.index, self.search or (None if self.index else str(self.qa)))
        rank = 0 if self.full else self.lora_rank
        policy = trainable(self.policy, rank, seed=self.seed)
        say = tell if processes.is_first() else lambda text: None
        say(f"{policy.describe()}; {place}; {len(kept):,} questions, {len(questions) - len(kept):,} left out")
        budgets = Budgets(
            searches=self.max_searches, documents=self.documents, document_tokens=self.document_tokens, total_tokens=4096
        )
        recipe = Cold(
            epochs=self.epochs,
            batch=self.batch,
            at_once=self.at_once,
            lr=self.lr,
            seed=self.seed,
            save_every=self.save_every,
            max_steps=self.steps or -1,
            bf16=policy.dtype == "bfloat16",
        )
        asked = ColdRun(recipe, budgets, rank, self.limit)

        def make() -> list[Example]:
            with open_source(place, tell) as source:
                return make_examples(kept, source, TransformersEngine(policy), budgets, tell)

        config = {name: _plain(value) for name, value in asdict(self).items() if name not in ("resume", "json", "out")}
        result = cold_start(asked, config, policy, self.out, make, resume=self.resume, tell=say)
        if not processes.is_first():
            return 0
        if self.json:
            show_json(result)
            return 0
        losses = f"loss {result['first_loss']:.3f} to {result['loss']:.3f}"
        show(f"{result['examples']:,} examples, {result['steps']:,} steps, {losses}")
        show(f"model: {result['model']}")
        return 0


@dataclass(frozen=True)
class TrainPolicy:
    """Train a policy by rewards, in R1-Searcher's two stages: to search (retrieval and format), then to answer. Rollouts are
    the agent's own; what the environment wrote is never learned. Each stage is a recipe, and a folder in --out with its
    config, metrics, checkpoints, traces that `replay` opens, the evaluation before and after, and the model. A guard stops a
    stage that collapses and goes back to the weights before it."""

    qa: Path = option("questions to learn from", metavar="QA.jsonl")
    out: Path = option("the folder of the run, which is made", metavar="runs/NAME")
    stage: Literal["retrieval", "answer", "both"] = option("which stage", default="both")
    recipe: str = option(
        "a set of recipes that comes along, a folder with retrieval.toml and answer.toml, or a .toml for one stage",
        default="embedded",
        metavar="NAME",
    )
    set: tuple[str, ...] = option("another value in the recipes (may be given again)", default=(), metavar="KEY=VALUE")
    index: Path | None = option("the index to search", default=None, metavar="DIR")
    search: str | None = option(
        "in place of an index: a file of passages or a URL (default: the questions' own)", default=None, metavar="SOURCE"
    )
    policy: str = option("embedded, a model folder, an adapter's folder or a hub id", default="embedded")
    exclude: tuple[Path, ...] = option("questions to leave out by their words (may be given again)", default=(), metavar="QA")
    difficulty: Path | None = option(
        "what `train data difficulty` wrote; the recipe's hardest says what is left out", default=None, metavar="FILE"
    )
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    eval_qa: Path | None = option(
        "held-out questions, asked before and after; left out of the training", default=None, metavar="QA.jsonl"
    )
    eval_search: str | None = option(
        "what they search (default: their own paragraphs, or what the training searches)", default=None, metavar="SOURCE"
    )
    eval_limit: int | None = option("only the first so many of them", default=None, metavar="N", within=COUNT)
    judge: str | None = option(
        "a model that says which answers are right, for the reward judge: a policy by name", default=None, metavar="NAME"
    )
    judge_engine: str = option("what runs the judge, as `eval answers` has it", default="transformers", metavar="NAME")
    engine: str = option(
        "what samples: transformers, vllm (in this process) or http://HOST:PORT (a vLLM server that takes adapters)",
        default="transformers",
        metavar="NAME",
    )
    device: Literal["auto", "cpu", "cuda"] = option("where to train", default="auto")
    resume: bool = option("go on with the run in --out", default=False)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from contextlib import ExitStack

        from colsearcher.agent.policy import sees_pages
        from colsearcher.agent.protocol import REASONING, SEEING
        from colsearcher.agent.source import Place, open_source
        from colsearcher.training import processes
        from colsearcher.training.policy.cold_run import without_asked
        from colsearcher.training.policy.difficulty import not_too_hard, read_difficulty
        from colsearcher.training.policy.judge import open_judge
        from colsearcher.training.policy.recipe import STAGES, Recipe, read_recipe, recipe_path
        from colsearcher.training.policy.report import evaluation_table, read_run
        from colsearcher.training.policy.rewards import judge
        from colsearcher.training.policy.samplers import open_sampler
        from colsearcher.training.policy.stage_run import StageData
        from colsearcher.training.policy.two_stages import run_stages
        from colsearcher.training.questions import load_questions

        names = STAGES if self.stage == "both" else (self.stage,)
        recipes: list[Recipe] = []
        for stage in names:
            recipe = read_recipe(recipe_path(self.recipe, stage), self.set)
            if recipe.stage != stage:
                raise UserError(f"The recipe is for the stage {recipe.stage}, not for {stage}; add --stage {recipe.stage}.")
            if self.judge is None and any(term.reward is judge for term in recipe.reward_sum().terms):
                raise UserError(f"The rewards of the stage {stage} ask a judge; name a model with --judge, or other rewards.")
            recipes.append(recipe)
        if self.eval_qa is None and (self.eval_search or self.eval_limit):
            raise UserError("--eval-search and --eval-limit are about held-out questions; name them with --eval-qa.")
        everything = load_questions(self.qa)
        held_out = load_questions(self.eval_qa, self.eval_limit) if self.eval_qa else []
        not_asked = [*(load_questions(self.eval_qa) if self.eval_qa else []), *_all(self.exclude)]
        kept = [question for question in without_asked(everything, not_asked) if question.answerable][: self.limit]
        known = read_difficulty(self.difficulty) if self.difficulty else None
        if known is not None and not any(recipe.hardest for recipe in recipes):
            raise UserError("The recipes leave no question out for its difficulty; add --set hardest=20, or such a number.")
        if known is None and any(change.partition("=")[0].strip() == "hardest" for change in self.set):
            raise UserError(
                "hardest leaves questions out by what `train data difficulty` found; name its file with --difficulty."
            )
        if known is None and (hardest := max(recipe.hardest for recipe in recipes)):
            tell(f"without --difficulty no question is left out; the recipe would leave out what takes over {hardest} rollouts")
        if not all(not_too_hard(kept, known, recipe.hardest) for recipe in recipes):
            raise UserError(f"Nothing of {self.qa} is left to learn from; check --exclude, --eval-qa and --difficulty.")
        own = all(question.context for question in everything)
        if self.index is None and self.search is None and not own:
            raise UserError(f"The questions of {self.qa} bring no paragraphs; name what to search with --index or --search.")
        place = Place.parse(self.index, self.search or (None if self.index else str(self.qa)))
        eval_own = self.eval_qa if held_out and all(question.context for question in held_out) else None
        eval_named = self.eval_search or (str(eval_own) if eval_own else None)
        say = tell if processes.is_first() else lambda text: None
        say(f"{len(kept):,} questions to learn from, {len(held_out):,} held out; {place}")
        with ExitStack() as opened:
            with processes.first_alone():
                source = opened.enter_context(open_source(place, say))
                eval_source = opened.enter_context(open_source(Place.parse(None, eval_named), say)) if eval_named else source
            protocol = SEEING if sees_pages(self.policy) and source.viewer else REASONING
            config = {
                name: _plain(value) for name, value in asdict(self).items() if name not in ("resume", "json", "out", "engine")
            }
            # A stopped run goes on by the numbers of its questions: they have to be the same ones, about the same pages.
            files = [path for path in (self.qa, self.eval_qa, *self.exclude, self.difficulty) if path]
            config["questions"] = [hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in files]
            config["corpus"], config["eval_corpus"] = source.corpus, eval_source.corpus
            asked = open_judge(self.judge, self.judge_engine, say) if self.judge else None
            data = StageData(kept, source, held_out, eval_source, protocol, asked, known)
            if processes.is_first() and not self.resume and any((self.out / name / "config.json").is_file() for name in names):
                raise UserError(f"{self.out} holds a run already; add --resume to go on with it, or take another --out.")
            rank = min(recipe.lora_rank for recipe in recipes)
            sees, adapters = protocol is SEEING, self.out / "adapters"
            sampler = open_sampler(self.engine, self.policy, rank, adapters, self.device, sees=sees)
            results = run_stages(
                recipes, self.policy, data, self.out, config, resume=self.resume, tell=say, device=self.device, sampler=sampler
            )
        if not processes.is_first():
            return 0
        if self.json:
            stages = {name: {**asdict(result), "model": str(result.model)} for name, result in results.items()}
            show_json({"run": str(self.out), "stages": stages, "model": str(list(results.values())[-1].model)})
            return 0
        for name, result in results.items():
            show(f"{name}: {result.steps} steps{', stopped: ' + result.collapse if result.collapse else ''}")
        for text in evaluation_table(read_run(self.out)):
            show(text)
        show(f"model: {list(results.values())[-1].model}")
        return 0


@dataclass(frozen=True)
class TrainReport:
    """Write curves and the evaluations before and after of a run of `train policy` or `train sft` as report.html and
    report.png into its folder."""

    folder: Path = argument("the folder of the run")

    def run(self) -> int:
        from colsearcher.training.policy.report import evaluation_table, read_run, write_report

        written = write_report(self.folder)
        for text in evaluation_table(read_run(self.folder)):
            show(text)
        show(" ".join(map(str, written)))
        return 0


def _all(paths: tuple[Path, ...]) -> list[Question]:
    from colsearcher.training.questions import load_questions

    return [question for path in paths for question in load_questions(path)]


def _plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    return [str(part) for part in value] if isinstance(value, tuple) else value
