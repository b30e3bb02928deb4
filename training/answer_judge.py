"""A language model says of each answer whether it is right: one prompt, one verdict, written beside the run's answers.

A verdict that cannot be read is None, never a guess. Judging is apart from answering, so that it can be added to a run that has
ended; it goes on where it was stopped, and each judge has verdicts of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from colsearcher.agent.engine import Engine, EngineProblem, Sampling, Session, Turn
from colsearcher.indexes.errors import UserError
from colsearcher.training.answer_evaluation import AnswerRecord
from colsearcher.training.run_folder import whole_lines

Key = TypeVar("Key", bound=Hashable)

PROMPT = """\
Someone answered a question, and you check the answer against the key.

Question: {question}
Key: {accepted}
Answer: {written}

The answer is right if it gives what the key gives. Other words, another way to write a number or a date, or more detail do no \
harm. It is wrong if it gives something else, leaves a part of the key out, or names several things of which only one can be \
meant. Where the key has «or» between answers, any one of them is enough.
Reply with one word: right or wrong."""
"""The whole message to the judge. Several accepted answers are joined by « or »."""

TOKENS = 16
_FILE = "judged.jsonl"
# The verdict, and what turns it round in the same clause.
_VERDICT = re.compile(r"((?:\bnot|n['’]t)\b[^.,;:\n]*?)?\b(right|wrong)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """What a judge said of one answer.

    Attributes:
        id: of the question.
        judge: name and revision.
        judged: right or not; None where what the judge wrote says neither, or both.
        said: what it wrote; "" where the policy gave no answer, which is wrong without asking.
    """

    id: str
    judge: str
    judged: bool | None
    said: str


def read_verdict(said: str) -> bool | None:
    """
    >>> [read_verdict(said) for said in ("Right.", "**wrong**", "right or wrong?", "not quite right", "upright", "")]
    [True, False, None, None, None, None]
    """
    found = {(bool(denied), word.lower()) for denied, word in _VERDICT.findall(said)}
    if found == {(False, "right")}:
        return True
    return False if found == {(False, "wrong")} else None


def judge_answers(
    records: Sequence[AnswerRecord],
    folder: Path,
    engine: Engine,
    *,
    in_flight: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, all: None,
) -> None:
    """Judge what this judge has not judged yet: the answers to questions that have one, as the policy wrote them.

    Args:
        folder: of the run; verdicts are appended to its `judged.jsonl` as they come.

    Raises:
        UserError: the judge fails; what it said before is kept.
    """
    name = f"{engine.name}@{engine.revision[:12]}"
    asked = [record for record in records if record.answerable and not record.failed]
    known = read_verdicts(folder, name)
    missing = [record for record in asked if record.id not in known]
    done = len(asked) - len(missing)

    def keep(record_id: str, judged: bool | None, said: str) -> None:
        nonlocal done
        with (folder / _FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(Verdict(record_id, name, judged, said)), ensure_ascii=False) + "\n")
        done += 1
        on_progress(done, len(asked))

    prompts = {}
    for record in missing:
        if record.written is None:
            keep(record.id, False, "")
        else:
            prompts[record.id] = prompt_for(record.question, record.accepted, record.written)
    for record_id, said in ask_judge(prompts, engine, in_flight=in_flight):
        keep(record_id, read_verdict(said), said)


def ask_judge(prompts: Mapping[Key, str], engine: Engine, *, in_flight: int) -> Iterator[tuple[Key, str]]:
    """What a judge says to each prompt, as it says it; `in_flight` side by side.

    Raises:
        UserError: the judge fails.
    """
    turns: dict[Key, tuple[Session, Turn]] = {}
    waiting = iter(prompts.items())
    try:
        while True:
            while len(turns) < in_flight and (asked := next(waiting, None)) is not None:
                key, prompt = asked
                session = engine.start(engine.encode_chat([{"role": "user", "content": prompt}]))
                turns[key] = session, Turn(session, Sampling(max_tokens=TOKENS))
            if not turns:
                return
            engine.work([turn for _, turn in turns.values()])
            for key in [key for key, (_, turn) in turns.items() if turn.ended]:
                session, turn = turns.pop(key)
                session.close()
                yield key, engine.decode(turn.result.ids).strip()
    except EngineProblem as problem:
        raise UserError(f"The judge failed ({problem}); what it said is kept, the same command goes on.") from problem
    finally:
        for session, _ in turns.values():
            session.close()


def prompt_for(question: str, accepted: Sequence[str], written: str) -> str:
    """`PROMPT` about one answer."""
    return PROMPT.format(question=question, accepted=" or ".join(accepted), written=written)


def read_verdicts(folder: Path, judge: str | None = None) -> dict[str, Verdict]:
    """Verdicts by question: of one judge, or of the last that judged; {} where none has."""
    path = folder / _FILE
    verdicts = [Verdict(**json.loads(line)) for line in whole_lines(path)] if path.is_file() else []
    if verdicts and judge is None:
        judge = verdicts[-1].judge
    return {verdict.id: verdict for verdict in verdicts if verdict.judge == judge}


def summarise_verdicts(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """The share judged right among the verdicts that could be read, and how many could not."""
    read = [verdict.judged for verdict in verdicts if verdict.judged is not None]
    return {
        "judge": verdicts[0].judge if verdicts else None,
        "judged": round(sum(read) / len(read), 4) if read else None,
        "judged_unread": len(verdicts) - len(read),
    }
