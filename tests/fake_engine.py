"""A real, tiny engine whose 'model' reads its tokens from a script: one token per character, so that ids are easy to read."""

from __future__ import annotations

from collections.abc import Sequence

from colsearcher.agent.engine import (
    EngineProblem,
    Generation,
    Interrupt,
    Message,
    OnToken,
    Sampling,
    StopReason,
    StopStrings,
    never,
)

EOS = 0


class ScriptedEngine:
    """Each turn samples the next text of the script, then the end of the message. `fail_at` breaks the n-th turn."""

    name = "scripted"
    revision = "1"

    def __init__(self, turns: Sequence[str], context: int = 100_000, fail_at: int | None = None, stream: bool = True) -> None:
        self.turns = list(turns)
        self.context = context
        self.fail_at = fail_at
        self.stream = stream
        self.sessions: list[ScriptedSession] = []

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        return self.encode("".join(f"{message['role']}: {message['content']}\n" for message in messages))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("<eos>" if token == EOS else chr(token) for token in ids)

    def start(self, prompt_ids: Sequence[int]) -> ScriptedSession:
        if len(prompt_ids) >= self.context:
            raise EngineProblem("The prompt does not fit.")
        self.sessions.append(ScriptedSession(self, prompt_ids))
        return self.sessions[-1]


class ScriptedSession:
    def __init__(self, engine: ScriptedEngine, prompt_ids: Sequence[int]) -> None:
        self.engine = engine
        self._ids = list(prompt_ids)
        self.sampled: list[tuple[int, int]] = []  # (position in ids, token), to check masks against
        self.turn = 0

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self._ids)

    @property
    def room(self) -> int:
        return self.engine.context - len(self._ids)

    def append(self, ids: Sequence[int]) -> None:
        assert len(ids) <= self.room
        self._ids += ids

    def generate(
        self,
        sampling: Sampling,
        *,
        stop: Sequence[str] = (),
        on_token: OnToken | None = None,
        interrupt: Interrupt = never,
    ) -> Generation:
        text = self.engine.turns[self.turn] if self.turn < len(self.engine.turns) else ""
        self.turn += 1
        ids: list[int] = []
        stops = StopStrings(stop, self.engine.decode)
        for place, token in enumerate([*self.engine.encode(text), EOS]):
            if reason := interrupt():
                return self._turn(ids, reason)
            if len(ids) >= sampling.max_tokens:
                return self._turn(ids, StopReason.TOKEN_BUDGET)
            if self.room <= 0:
                return self._turn(ids, StopReason.CONTEXT_FULL)
            if self.engine.fail_at == self.turn and place == 3:
                if not self.engine.stream and ids:
                    del self._ids[-len(ids) :], self.sampled[-len(ids) :]
                raise EngineProblem("out of memory")
            self.sampled.append((len(self._ids), token))
            self._ids.append(token)
            ids.append(token)
            if on_token is not None and self.engine.stream:
                on_token(token, -0.5)
            if token == EOS:
                return self._turn(ids, StopReason.EOS)
            if matched := stops.push(token):
                return self._turn(ids, StopReason.STOP_STRING, matched)
        raise AssertionError("unreachable")

    def _turn(self, ids: list[int], stop: StopReason, matched: str | None = None) -> Generation:
        return Generation(tuple(ids), (-0.5,) * len(ids), stop, matched)
