"""`colsearcher train data`: check questions before they are learned from, bring other formats in, find how hard they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from colsearcher.agent.flags import argument, option
from colsearcher.agent.range import COUNT, SEED
from colsearcher.agent.terminal import show, show_json, tell


@dataclass(frozen=True)
class DataValidate:
    """Give every gold answer to the rewards it will be learned by, and list what does not score 1.0; what is asked twice; what
    is also asked in the held-out files; what has no gold pages. Exit code 2 where something has to be mended."""

    qa: tuple[Path, ...] = argument("files of questions")
    held_out: tuple[Path, ...] = option("files whose questions must not be learned", default=(), metavar="QA")
    reward: tuple[str, ...] = option("a reward of answers (default: F1, EM, cover, ANLS)", default=(), metavar="NAME")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.training.policy.rewards import load_reward
        from colsearcher.training.policy.validation import ANSWER_REWARDS, validate
        from colsearcher.training.questions import load_questions

        rewards = [load_reward(name) for name in self.reward] or list(ANSWER_REWARDS)
        questions = [question for path in self.qa for question in load_questions(path)]
        held_out = [question for path in self.held_out for question in load_questions(path)]
        findings = validate(questions, held_out, rewards)
        if self.json:
            show_json({"questions": len(questions), **findings.as_json()})
        else:
            for line in findings.lines(len(questions)):
                show(line)
        return 2 if findings.wrong else 0


@dataclass(frozen=True)
class DataImport:
    """Write questions of another format (DocVQA, MP-DocVQA, InfographicVQA, HotpotQA, R1-Searcher, a dataset of the hub or on
    disk) as QA.jsonl, with the pages or passages that they are about beside them."""

    source: str = argument("a file, or a dataset of the hub as NAME or NAME:SPLIT")
    out: Path = option("the folder to write, which is made", metavar="DIR")
    pages: bool = option("render the paragraphs of questions with context to PDFs", default=False)
    limit: int | None = option("only the first so many", default=None, metavar="N", within=COUNT)

    def run(self) -> int:
        from colsearcher.training.policy.importing import import_questions

        written = import_questions(self.source, self.out, as_pages=self.pages, limit=self.limit, tell=tell)
        for line in written.lines():
            show(line)
        return 0


@dataclass(frozen=True)
class DataDifficulty:
    """Count the rollouts that each question takes until a policy answers it right, as R1-Searcher sorts its questions. What is
    written is what `train policy --difficulty` reads; the same command goes on with what is missing, and with a larger --most
    with what was never answered right."""

    qa: Path = option("questions", metavar="QA.jsonl")
    out: Path = option("the file to write", metavar="FILE.jsonl")
    index: Path | None = option("the index to search", default=None, metavar="DIR")
    search: str | None = option("in place of an index: a file of passages or a URL (default: the questions' own)", default=None)
    policy: str = option("embedded, a model folder or a hub id", default="embedded")
    most: int = option("at most so many rollouts of a question", default=20, metavar="N", within=COUNT)
    max_searches: int = option("at most so many searches", default=3, metavar="N", within=COUNT)
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    seed: int = option("of the sampling", default=0, within=SEED)

    def run(self) -> int:
        import math
        from collections import defaultdict

        from colsearcher.agent.opened_policy import open_policy
        from colsearcher.agent.record import Budgets
        from colsearcher.agent.source import Place, open_source
        from colsearcher.training.policy.difficulty import Difficulty, read_difficulty, rollouts_until_right, write_difficulty
        from colsearcher.training.questions import load_questions

        questions = load_questions(self.qa, self.limit)
        known = read_difficulty(self.out) if self.out.is_file() else {}
        left = defaultdict(list)
        for question in questions:
            before = known.get(question.id, Difficulty(None, 0))
            if before.rollouts is None and before.tried < self.most:
                left[before.tried].append(question)
        place = Place.parse(self.index, self.search or (None if self.index else str(self.qa)))
        opened = open_policy(self.policy, "transformers", "reasoning")
        tell(f"{opened.told}; {len(questions):,} questions, {len(questions) - sum(map(len, left.values())):,} known already")
        with open_source(place, tell) as source:
            for tried, missing in sorted(left.items()):
                found = rollouts_until_right(
                    missing,
                    opened.engine,
                    source.retriever,
                    opened.protocol,
                    Budgets(searches=self.max_searches, seconds=math.inf),
                    most=self.most,
                    tried=tried,
                    seed=self.seed,
                    viewer=source.viewer,
                    on_round=lambda turn, left: tell(f"round {turn} of at most {self.most}: {left:,} questions left"),
                )
                for question, difficulty in found:
                    known[question.id] = difficulty
                    write_difficulty(self.out, known)
        easy = sum(1 for difficulty in known.values() if difficulty.rollouts is not None)
        show(f"{easy:,} of {len(known):,} answered right: {self.out}")
        if unknown := len(questions) - sum(question.id in known for question in questions):
            show(f"{unknown:,} not known, since a search or the policy failed; the same command asks them again")
        return 0
