"""`colsearcher train sft`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from colsearcher.agent.flags import option
from colsearcher.agent.terminal import show, show_json, tell
from colsearcher.indexes.errors import UserError


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
    limit: int | None = option("at most so many examples", default=None, metavar="N")
    lora_rank: int = option("rank of the adapters", default=16, metavar="R")
    full: bool = option("train all weights, no adapters", default=False)
    epochs: float = option("passes over the examples", default=2.0, metavar="N")
    steps: int | None = option("optimizer steps, instead of --epochs", default=None, metavar="N")
    batch: int = option("examples per step", default=16, metavar="N")
    at_once: int = option("examples in one forward pass", default=2, metavar="N")
    lr: float = option("highest learning rate", default=2e-4, metavar="RATE")
    max_searches: int = option("at most so many searches", default=3, metavar="N")
    documents: int = option("pages per search", default=3, metavar="N")
    document_tokens: int = option("tokens of a search's pages", default=360, metavar="N")
    save_every: int = option("steps between two states to resume from", default=10, metavar="N")
    seed: int = option("of the order and of new adapters", default=0)
    resume: bool = option("go on with the run in --out", default=False)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.agent.policy import load_policy
        from colsearcher.agent.record import Budgets
        from colsearcher.agent.source import Place, open_source
        from colsearcher.agent.transformers_engine import TransformersEngine
        from colsearcher.training.policy.cold_run import ColdRun, cold_start, make_examples, without_asked
        from colsearcher.training.policy.cold_start import Example
        from colsearcher.training.policy.sft import Cold
        from colsearcher.training.questions import load_questions

        questions = load_questions(self.qa)
        held_out = [question for path in self.exclude for question in load_questions(path)]
        kept = without_asked(questions, held_out)
        own = all(question.context for question in questions)
        if self.index is None and self.search is None and not own:
            raise UserError(f"The questions of {self.qa} bring no paragraphs; name what to search with --index or --search.")
        place = Place.parse(self.index, self.search or (None if self.index else str(self.qa)))
        policy = load_policy(self.policy)
        tell(f"{policy.describe()}; {place}; {len(kept):,} questions, {len(questions) - len(kept):,} left out")
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
        asked = ColdRun(recipe, budgets, None if self.full else self.lora_rank, self.limit)

        def make() -> list[Example]:
            with open_source(place, tell) as source:
                return make_examples(kept, source, TransformersEngine(policy), budgets, tell)

        config = {name: _plain(value) for name, value in asdict(self).items() if name not in ("resume", "json", "out")}
        result = cold_start(asked, config, policy, self.out, make, resume=self.resume, tell=tell)
        if self.json:
            show_json(result)
            return 0
        losses = f"loss {result['first_loss']:.3f} to {result['loss']:.3f}"
        show(f"{result['examples']:,} examples, {result['steps']:,} steps, {losses}")
        show(f"model: {result['model']}")
        return 0


def _plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    return [str(part) for part in value] if isinstance(value, tuple) else value
