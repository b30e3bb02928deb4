"""A real, tiny engine whose 'model' reads its tokens from a script: one token per character, so that ids are easy to read."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from colsearcher.agent.engine import EngineProblem, Message, StopReason, Turn
from colsearcher.agent.pictures import Picture

EOS = 0
PAD = 1  # stands for a part of a picture


class ScriptedEngine:
    """Each turn of a session samples the next text of its script, then the end of the message. Scripts may be of one session
    each, in the order in which they start, or one for all. `fail_at` breaks the n-th turn."""

    name = "scripted"
    revision = "1"
    exact = True

    def __init__(
        self,
        turns: Sequence[str] | Sequence[Sequence[str]],
        context: int = 100_000,
        fail_at: int | None = None,
        sees: bool = False,
    ) -> None:
        self.turns = list(turns)
        self.context = context
        self.fail_at = fail_at
        self.sees = sees
        self.sessions: list[ScriptedSession] = []

    def script(self, number: int) -> list[str]:
        own = self.turns[number] if self.turns and not isinstance(self.turns[0], str) else self.turns
        return [text for text in own if isinstance(text, str)]

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        return self.encode("".join(f"{message['role']}: {message['content']}\n" for message in messages))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join({EOS: "<eos>", PAD: "#"}.get(token, chr(token)) for token in ids)

    def picture(self, image: Image.Image, max_tokens: int) -> tuple[list[int], Picture]:
        """As many tokens as it may have, at most 4."""
        count = min(4, max_tokens)
        picture = Picture(image, (1, count))
        return [ord("["), *[PAD] * count, ord("]")], picture

    def start(self, prompt_ids: Sequence[int]) -> ScriptedSession:
        if len(prompt_ids) >= self.context:
            raise EngineProblem("The prompt does not fit.")
        self.sessions.append(ScriptedSession(self, prompt_ids))
        return self.sessions[-1]

    def work(self, turns: Sequence[Turn]) -> None:
        """One token for each turn at a time, until one ends."""
        while not any(turn.ended for turn in turns):
            for turn in turns:
                session = turn.session
                assert isinstance(session, ScriptedSession) and not session.closed
                if session.current is not turn:
                    session.begin(turn)
                session.sample(turn)


class ScriptedSession:
    def __init__(self, engine: ScriptedEngine, prompt_ids: Sequence[int]) -> None:
        self.engine = engine
        self._ids = list(prompt_ids)
        self.sampled: list[tuple[int, int]] = []  # (position in ids, token), to check masks against
        self.turn = 0
        self.script = engine.script(len(engine.sessions))
        self.current: Turn | None = None
        self.coming: list[int] = []  # what is left of it to be sampled
        self.closed = False
        self.seen: list[Picture] = []

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self._ids)

    @property
    def room(self) -> int:
        return self.engine.context - len(self._ids)

    def append(self, ids: Sequence[int], pictures: Sequence[Picture] = ()) -> None:
        assert len(ids) <= self.room
        assert sum(token == PAD for token in ids) == sum(picture.tokens for picture in pictures)
        self._ids += ids
        self.seen += pictures

    def close(self) -> None:
        self.closed = True

    def begin(self, turn: Turn) -> None:
        text = self.script[self.turn] if self.turn < len(self.script) else ""
        self.current = turn
        self.turn += 1
        self.coming = [*self.engine.encode(text), EOS]

    def sample(self, turn: Turn) -> None:
        """One token."""
        if not turn.may_go_on():
            return
        if self.engine.fail_at == self.turn and len(turn.ids) == 3:
            turn.failure = EngineProblem("out of memory")
            return
        token = self.coming.pop(0)
        self.sampled.append((len(self._ids), token))
        self._ids.append(token)
        turn.add(token, -0.5, 0.25)
        if token == EOS:
            turn.end(StopReason.EOS)
            return
        for stop in turn.stop:  # the slow reference for StopStrings
            if stop in self.engine.decode(turn.ids):
                turn.end(StopReason.STOP_STRING, stop)
                return
