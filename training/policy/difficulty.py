"""How hard a question is: offline by rollouts until one is right, and while training by whether its rollouts differ.

R1-Searcher sorts its questions by the former (fewer than 10 rollouts are easy, more than 20 hard). Only groups whose rollouts
earn different rewards teach anything, so a question whose group was all alike rests until the others have been asked.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from colsearcher.agent.engine import Engine, Sampling
from colsearcher.agent.protocol import Protocol
from colsearcher.agent.record import Budgets, Task
from colsearcher.agent.retriever import Retriever
from colsearcher.agent.rollout import run_rollouts
from colsearcher.agent.viewer import Viewer
from colsearcher.indexes.errors import UserError
from colsearcher.training.policy.outcome import outcome_of
from colsearcher.training.policy.rewards import answer_cover
from colsearcher.training.question import Question


@dataclass(frozen=True)
class Difficulty:
    """Attributes:
    rollouts: how many it took until one was right, None where none of `tried` was.
    tried: how many there were.
    """

    rollouts: int | None
    tried: int


@dataclass
class Rest:
    """Which questions rest, while a policy is trained.

    Attributes:
        names: all questions.
        resting: those whose last group was all alike, with the step at which it was.
        pause: steps after which such a question may be asked again.
    """

    names: Sequence[str]
    pause: int = 50
    resting: dict[str, int] = field(default_factory=dict)

    def saw(self, name: str, step: int, alike: bool) -> None:
        if alike:
            self.resting[name] = step
        else:
            self.resting.pop(name, None)

    def instead(self, asked: Sequence[str], step: int, seed: int) -> list[str]:
        """The questions of a batch, with others in place of those that rest; as they are where all rest."""
        rests = {name for name, since in self.resting.items() if step - since < self.pause}
        awake = [name for name in self.names if name not in rests and name not in asked]
        random.Random(f"{seed}:{step}").shuffle(awake)
        return [awake.pop() if name in rests and awake else name for name in asked]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.resting), encoding="utf-8")

    def load(self, path: Path) -> None:
        self.resting = json.loads(path.read_text(encoding="utf-8"))


def rollouts_until_right(
    questions: Sequence[Question],
    engine: Engine,
    retriever: Retriever,
    protocol: Protocol,
    budgets: Budgets,
    *,
    most: int,
    tried: int = 0,
    seed: int = 0,
    viewer: Viewer | None = None,
    in_flight: int = 64,
    on_round: Callable[[int, int], None] = lambda round, left: None,
) -> Iterator[tuple[Question, Difficulty]]:
    """How many rollouts each question took until one's answer covered an accepted one. One of which a rollout failed and none
    was right is left out: nothing is known of it.

    Args:
        most: rollouts of a question, those that were tried before among them.
        tried: so many were wrong before.
        on_round: told before each round how many questions are left.

    Yields:
        (question, its difficulty), as they are known.
    """
    left = list(questions)
    failed: set[str] = set()
    for turn in range(tried + 1, most + 1):
        on_round(turn, len(left))
        tasks = [
            Task(question.text, Sampling(temperature=1.0, seed=(seed * 1_000_003 + turn) * 65_536 + number))
            for number, question in enumerate(left)
        ]
        wrong = []
        for number, rollout in run_rollouts(tasks, engine, retriever, protocol, budgets, viewer=viewer, in_flight=in_flight):
            outcome = outcome_of(rollout, left[number])
            if answer_cover(outcome.answer, outcome.accepted):
                yield left[number], Difficulty(turn, turn)
                continue
            wrong.append(number)
            if outcome.failed:
                failed.add(left[number].id)
        left = [left[number] for number in sorted(wrong)]
        if not left:
            return
    for question in left:
        if question.id not in failed:
            yield question, Difficulty(None, most)


def write_difficulty(path: Path, found: Mapping[str, Difficulty]) -> None:
    """JSONL of `{"id", "rollouts", "tried"}`, rollouts null where none was right; the file is the old one or the new one."""
    text = "".join(json.dumps({"id": name, **asdict(difficulty)}) + "\n" for name, difficulty in found.items())
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def read_difficulty(path: Path) -> dict[str, Difficulty]:
    """What `write_difficulty` wrote.

    Raises:
        UserError: no such file, or another kind of file.
    """
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return {str(record["id"]): Difficulty(record["rollouts"], record["tried"]) for record in records}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); `colsearcher train data difficulty` writes it.") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is no file of difficulties; `colsearcher train data difficulty` writes them.") from None


def not_too_hard(
    questions: Sequence[Question], difficulty: Mapping[str, Difficulty] | None, hardest: int
) -> Sequence[Question]:
    """The questions that took at most `hardest` rollouts; all where it is 0 or nothing is known."""
    if difficulty is None or not hardest:
        return questions
    rollouts = {name: known.rollouts for name, known in difficulty.items() if known.rollouts is not None}
    return [question for question in questions if rollouts.get(question.id, hardest + 1) <= hardest]
