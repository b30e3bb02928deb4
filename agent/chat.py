"""A conversation: what was asked and answered before, kept in a file and told to the policy again with the next question.

A conversation is a JSONL file with a line per question, appended when it is answered. Left out: reading questions and showing
answers (`commands.chat`).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from colsearcher.agent.ask import Asked
from colsearcher.agent.protocol import (
    ANSWER,
    BEGIN_QUERY,
    END_ANSWER,
    END_QUERY,
    END_THINK,
    THINK,
    Protocol,
    escape,
    format_notice,
)
from colsearcher.indexes.errors import FileProblem, UserError


@dataclass(frozen=True)
class ChatTurn:
    """A question of a conversation.

    Attributes:
        at: when it was answered, local time.
        answer: what was given, None where nothing was.
        trace: the file that records how the answer came about.
    """

    at: str
    question: str
    answer: str | None
    citations: tuple[str, ...]
    queries: tuple[str, ...]
    stop_reason: str
    trace: str

    @classmethod
    def of(cls, asked: Asked) -> ChatTurn:
        return cls(
            time.strftime("%Y-%m-%dT%H:%M:%S"),
            asked.question,
            asked.answer.text,
            tuple(map(str, asked.answer.citations)),
            tuple(search.query for search in asked.rollout.searches),
            str(asked.rollout.stop),
            str(asked.trace),
        )


class Chat:
    """A conversation and its file, which is made with its first turn.

    Raises:
        FileProblem: the file is there and cannot be read, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.turns = _read(path) if path.exists() else []

    @classmethod
    def begin(cls, folder: Path) -> Chat:
        """A new one in the `chats` of a folder."""
        return cls(folder / "chats" / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}.jsonl")

    @classmethod
    def last(cls, folder: Path) -> Chat:
        """The one that was last added to.

        Raises:
            UserError: there is none.
        """
        known = sorted((folder / "chats").glob("*.jsonl"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        if not known:
            raise UserError(f"There is no conversation in {folder / 'chats'} to go on with; leave -c out.")
        return cls(known[-1])

    def add(self, turn: ChatTurn) -> None:
        """Append a turn.

        Raises:
            FileProblem: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(turn), ensure_ascii=False) + "\n")
        except OSError as problem:
            raise FileProblem(f"The conversation {self.path} cannot be written ({problem.strerror}).") from problem
        self.turns.append(turn)

    def protocol(self, protocol: Protocol, most: int, room: Callable[[Protocol], int] = lambda protocol: 1) -> Protocol:
        """The protocol with the last `most` questions and their answers as earlier turns of the chat.

        Args:
            room: how many tokens of the context a protocol leaves. Earlier turns take less than half; the oldest go first.
        """
        said = [turn for turn in self.turns if turn.stop_reason != "cancelled"][-most:] if most else []
        while True:
            told = replace(protocol, examples=(*protocol.examples, *(_told(turn, protocol) for turn in said)))
            if not said or 2 * room(told) > room(protocol):
                return told
            said = said[1:]


def _told(turn: ChatTurn, protocol: Protocol) -> tuple[str, str]:
    """A turn as the policy would have written it, its documents left out."""
    question = escape(" ".join(turn.question.split()))
    searches = "".join(f"{BEGIN_QUERY}{escape(query)}{END_QUERY}\n{format_notice('…')}\n" for query in turn.queries)
    reminder = protocol.reminder.format(question=question)
    answer = escape(turn.answer or "I don't know")
    return question, f"{THINK}\n{searches}{reminder}{END_THINK}\n{ANSWER}\n{answer}\n{END_ANSWER}"


def _read(path: Path) -> list[ChatTurn]:
    """Every turn. A last line that a kill cut short is taken off, so that the next one begins a line."""
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if len(whole) < len(text):
            path.write_text(whole, encoding="utf-8")
        return [_turn(line) for line in whole.split("\n")[:-1]]
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise FileProblem(f"The conversation {path} cannot be read ({problem}); leave -c out to begin another.") from problem


def _turn(line: str) -> ChatTurn:
    values = json.loads(line)
    lists: dict[str, Sequence[str]] = {name: tuple(values[name]) for name in ("citations", "queries")}
    return ChatTurn(**{**values, **lists})
