"""`colsearcher chat`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from colsearcher.agent.asking import AskingOneByOne
from colsearcher.agent.flags import option
from colsearcher.agent.range import NATURAL
from colsearcher.agent.terminal import show, tell
from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    from colsearcher.agent.engine import Engine
    from colsearcher.agent.protocol import Protocol


@dataclass(frozen=True)
class Chat(AskingOneByOne):
    """Ask one question after the other, each with what was said before. Questions are lines, typed or piped in. Ctrl-C stops an
    answer, Ctrl-D ends. The conversation is kept in the chats folder of what is searched; -c goes on with the last."""

    continue_: bool = option("go on with the last conversation", default=False, short="-c")
    turns: int = option(
        "tell the policy so many of the last questions and answers, or as many as fit in half of its context",
        default=6,
        metavar="N",
        within=NATURAL,
    )
    json: bool = option("print one JSON document a line for each question", default=False)

    def run(self) -> int:
        from colsearcher.agent.chat import Chat as Conversation
        from colsearcher.agent.chat import ChatTurn
        from colsearcher.agent.roles import tell_roles
        from colsearcher.agent.source import Place, open_source

        place = Place.parse(self.index, self.search)
        tell_roles(tell, policy=self.policy, engine=self.engine, place=place)
        from colsearcher.agent.ask import ask
        from colsearcher.agent.calibration import load_calibration
        from colsearcher.agent.engine import Sampling
        from colsearcher.agent.opened_policy import open_policy
        from colsearcher.agent.record import Budgets
        from colsearcher.agent.transcript import Transcript, answer_lines

        with open_source(place, tell) as source:
            chat = Conversation.last(source.folder) if self.continue_ else Conversation.begin(source.folder)
            policy = open_policy(self.policy, self.engine, self.protocol)
            tell(f"{policy.told}; {source.described}")
            calibration = load_calibration(source.folder, policy.name, tell)
            tell(f"conversation {chat.path}, {len(chat.turns)} questions so far; Ctrl-C stops an answer, Ctrl-D ends")
            for question in questions(prompt="" if self.json else "> "):
                transcript = Transcript()
                try:
                    with stoppable() as stopped:
                        asked = ask(
                            question,
                            source,
                            policy.engine,
                            chat.protocol(policy.protocol, self.turns, partial(room, policy.engine, question)),
                            budgets=Budgets(searches=self.max_searches, documents=self.documents, seconds=self.seconds),
                            sampling=Sampling(temperature=self.temperature, seed=self.seed),
                            on_event=transcript.event if sys.stderr.isatty() and not self.json else lambda kind, data: None,
                            cancelled=stopped,
                            calibration=calibration,
                        )
                except KeyboardInterrupt:
                    tell("stopped")
                    continue
                chat.add(ChatTurn.of(asked))
                if self.json:
                    show(json.dumps({**asked.as_json(), "chat": str(chat.path)}, ensure_ascii=False))
                    continue
                for line in answer_lines(asked):
                    show(line)
        return 0


def room(engine: Engine, question: str, protocol: Protocol) -> int:
    """How many tokens a policy may read and write after a question."""
    from colsearcher.agent.engine import EngineProblem

    try:
        return engine.start(engine.encode_chat(protocol.messages(question))).room
    except EngineProblem:
        return 0


def questions(prompt: str) -> Iterator[str]:
    """Lines with something in them until the end of the input. At a terminal Ctrl-C drops the line that is being typed.

    Raises:
        UserError: the input is not UTF-8 text.
    """
    typed = sys.stdin.isatty()
    if typed:
        import readline  # noqa: F401  # lets `input` edit a line and call up those before
    while True:
        try:
            line = input(prompt) if typed else sys.stdin.readline()
            line.encode()  # bytes that are no text come as halves of characters in some locales
        except EOFError:
            return
        except KeyboardInterrupt:
            if not typed:
                raise
            show()
            continue
        except UnicodeError:
            raise UserError("The input is not UTF-8 text; write questions as UTF-8, one per line.") from None
        if not typed and not line:
            return
        if line.strip():
            yield line.strip()


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C makes what is yielded say True, and only the second one interrupts."""
    asked = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
