"""The engine for hosted policies behind an OpenAI-compatible chat API: text goes out and text comes back.

    OPENAI_API_KEY=… colsearcher ask "…" --index DIR --engine "openai:MODEL@https://api.openai.com/v1?sees"

Such an API shows no token ids, so this engine is not `exact`: good for asking and for scoring, never for training. Its ids are
numbers for four bytes of text each (about what a token holds, so that budgets mean what they do elsewhere), made and read
without any table; its logprobs are 0. With `?sees` the policy is shown page images in place of their words; what a picture
costs is counted in squares of 28 pixels, as Qwen's models have them, whatever the service counts.

Two things are done so that every such API will do:

* The conversation so far goes into the user's message, as text to go on from. An assistant message at the end, to be
  continued, is understood by some servers, refused by others, and taken by others for a turn that is over.
* Stop strings are watched for here, in the stream, which is closed at the first one. With the API's own `stop` the string is
  cut off, and nothing tells it from the end of the message; so it would have to be written by the environment although the
  policy had written it. Some policies take no `stop` at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from colsearcher.agent.engine import EngineProblem, Message, StopReason, Turn
from colsearcher.agent.http_client import EventStream, HttpClient, ServerProblem
from colsearcher.agent.http_engine import HttpEngine, HttpStream
from colsearcher.agent.pictures import Picture, draw_in_tokens
from colsearcher.agent.served_engine import Arrival, Stream
from colsearcher.indexes.errors import ModelProblem

if TYPE_CHECKING:
    from PIL import Image

_BYTES = 4
# Ids below 256 are marks; a piece of text begins with a byte of 1, so that its leading zeros count.
_ROLES = ("system", "user", "assistant")
_END = len(_ROLES)
_PICTURE = _END + 1
_SIDE = 28

CONTEXT = 100_000
GO_ON = (
    "\n\nYour reply has begun already; below is all of it so far, with what was put into it for you to read. Write what comes "
    "next, starting exactly where it ends, and repeat nothing of it.\n\n"
)


def encode_text(text: str) -> list[int]:
    """Four bytes to an id.

    >>> decode_text(encode_text("naïve"))
    'naïve'
    """
    data = text.encode("utf-8", "replace")
    return [int.from_bytes(b"\x01" + data[start : start + _BYTES]) for start in range(0, len(data), _BYTES)]


def decode_text(ids: Sequence[int]) -> str:
    """The text of ids; roles and the end of a message are shown in brackets.

    >>> decode_text([1, *encode_text("hello"), 3])
    '[user]\\nhello[end]'
    """
    pieces = [_piece(token) for token in ids]
    return b"".join(pieces).decode("utf-8", "replace")


def _piece(token: int) -> bytes:
    if token == _END:
        return b"[end]"
    if token < _END:
        return f"[{_ROLES[token]}]\n".encode()
    if token == _PICTURE:
        return b""
    return token.to_bytes((token.bit_length() + 7) // 8)[1:]


class ChatEngine(HttpEngine):
    """A hosted policy.

    Args:
        client: with the key.
        model: its name there.
        context: longest conversation, in ids.
        sees: whether it takes images.

    Raises:
        ModelProblem: the server does not answer, refuses the key, or lists its models and this is none of them.
    """

    exact = False
    pad_token = _PICTURE

    def __init__(self, client: HttpClient, model: str, context: int | None = None, *, sees: bool = False) -> None:
        super().__init__(client, model, f"served at {client.url}", context or CONTEXT)
        self.model = model
        self._sees = sees
        self._check_model()

    @property
    def sees(self) -> bool:
        return self._sees

    def picture(self, image: Image.Image, max_tokens: int) -> tuple[list[int], Picture]:
        if not self._sees:
            raise EngineProblem(
                f"{self.name} is shown no pictures. Write ?sees behind the address in --engine if it takes them."
            )
        image = draw_in_tokens(image, max_tokens, _SIDE)
        picture = Picture(image, (image.height // _SIDE, image.width // _SIDE))
        return [_PICTURE] * picture.tokens, picture

    def encode(self, text: str) -> list[int]:
        return encode_text(text)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        ids: list[int] = []
        for message in messages:
            ids += [_ROLES.index(message["role"]), *encode_text(message["content"])]
        return [*ids, _ROLES.index("assistant")]

    def decode(self, ids: Sequence[int]) -> str:
        return decode_text(ids)

    def _send(self, turn: Turn, seed: int) -> Stream:
        sampling, session = turn.sampling, self._own(turn)
        messages = messages_of(session.tokens, (picture for _, picture in session.pictures))
        body: dict[str, Any] = {"model": self.model, "messages": messages, "stream": True}
        # What is at its default is not sent: some policies take no other value and refuse the parameter.
        if sampling.temperature != 1:
            body["temperature"] = sampling.temperature
        if sampling.temperature > 0:
            body["seed"] = seed
        if sampling.top_p != 1:
            body["top_p"] = sampling.top_p
        limit = min(sampling.max_tokens, turn.session.room)
        events = self.client.events("/chat/completions", body | {"max_tokens": limit})
        return HttpStream(turn, events, self._arrived).begin(_arrivals(events, turn.stop, limit))

    def _check_model(self) -> None:
        try:
            listed = [model["id"] for model in self.client.get("/models")["data"]]
        except ServerProblem as problem:
            if problem.status in (401, 403):
                raise ModelProblem(f"{problem} Set OPENAI_API_KEY to a key of that service.") from problem
            if problem.status is None:
                raise ModelProblem(f"{problem} Check the address in --engine; it ends before /chat/completions.") from problem
            return  # not every service lists its models
        except (KeyError, TypeError):
            return
        if self.model not in listed:
            known = ", ".join(listed[:8]) + (" …" if len(listed) > 8 else "")
            raise ModelProblem(f"{self.client.url} has no model «{self.model}». Choose one of these: {known}.")


def messages_of(tokens: Sequence[int], pictures: Iterable[Picture] = ()) -> list[dict[str, Any]]:
    """The chat that a conversation is sent as; what the assistant has begun to write goes to the end of the user's message.

    Args:
        pictures: those that stand among the tokens, in order. A message with some is sent in parts, one without as its text.
    """
    left = iter(pictures)
    marks = [place for place, token in enumerate(tokens) if token < _END] + [len(tokens)]
    messages = [
        (_ROLES[tokens[start]], _parts([t for t in tokens[start + 1 : end] if t != _END], left))
        for start, end in pairwise(marks)
    ]
    _, reply = messages.pop()
    if reply:
        messages[-1][1].extend([GO_ON, *reply])
    return [{"role": role, "content": _content(parts)} for role, parts in messages]


def _parts(tokens: Sequence[int], pictures: Iterator[Picture]) -> list[str | Picture]:
    parts: list[str | Picture] = []
    at = 0
    while at < len(tokens):
        if tokens[at] == _PICTURE:
            parts.append(picture := next(pictures))
            at += picture.tokens
        else:
            end = next((place for place in range(at, len(tokens)) if tokens[place] == _PICTURE), len(tokens))
            parts.append(decode_text(tokens[at:end]))
            at = end
    return parts


def _content(parts: Sequence[str | Picture]) -> str | list[dict[str, Any]]:
    """Text that nothing stands between is one text; without pictures, all of it."""
    joined: list[dict[str, Any]] = []
    for is_text, group in groupby(parts, lambda part: isinstance(part, str)):
        if is_text:
            joined.append({"type": "text", "text": "".join(map(str, group))})
        else:
            joined += [{"type": "image_url", "image_url": {"url": part.url}} for part in group if isinstance(part, Picture)]
    return joined if any(isinstance(part, Picture) for part in parts) else "".join(map(str, parts))


def _arrivals(events: EventStream, stop: Sequence[str], limit: int) -> Iterator[Arrival]:
    """What the events of a chat completion say, cut after the first stop string and after so many ids."""
    text = ""
    for event in events:
        for choice in event.get("choices", ()):
            fresh = (choice.get("delta") or {}).get("content") or ""
            seen = text + fresh
            found = [(seen.index(tag) + len(tag), tag) for tag in stop if tag in seen]
            end, matched = min(found, default=(len(seen), None))
            tokens = tuple((token, 0.0) for token in encode_text(fresh[: max(end - len(text), 0)]))
            text, left = seen, limit - len(tokens)
            if left < 0:
                yield Arrival(tokens[:limit], StopReason.TOKEN_BUDGET)
            elif matched is not None:
                yield Arrival(tokens, StopReason.STOP_STRING, matched)
            elif left == 0:
                yield Arrival(tokens, StopReason.TOKEN_BUDGET)
            else:
                yield _ended(tokens, choice.get("finish_reason"))
            limit = left


def _ended(tokens: tuple[tuple[int, float], ...], finish: str | None) -> Arrival:
    if finish is None:
        return Arrival(tokens)
    if finish == "stop":
        return Arrival((*tokens, (_END, 0.0)), StopReason.EOS)
    if finish == "length":
        return Arrival(tokens, StopReason.TOKEN_BUDGET)
    return Arrival(tokens, problem=EngineProblem(f"The service ended the turn with «{finish}»."))
