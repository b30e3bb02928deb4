"""Text to a policy's token ids and back, without its weights.

What a user, a page or a policy wrote is encoded so that control tokens spelled out in it stay ordinary characters; only the
chat template writes control tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from colsearcher.agent.engine import Message
from colsearcher.indexes.errors import ModelProblem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Private-use characters: they stand for a message's content while the chat template is rendered.
_SLOT = "\ue0f0{}\ue0f1"


class PolicyTokenizer:
    """The three text methods of an `Engine`.

    Args:
        name: of the policy, for messages.
        tokenizer: its own, chat template included.
    """

    def __init__(self, name: str, tokenizer: PreTrainedTokenizerBase) -> None:
        self.name = name
        self.tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        slots = [{**message, "content": _SLOT.format(number)} for number, message in enumerate(messages)]
        rest = str(self.tokenizer.apply_chat_template(slots, add_generation_prompt=True, tokenize=False))
        ids: list[int] = []
        for slot, message in zip(slots, messages, strict=True):
            before, found, rest = rest.partition(slot["content"])
            if not found:
                raise ModelProblem(
                    f"The chat template of {self.name} has no place for a {message['role']} message. "
                    "Choose an instruction-tuned policy with a plain chat template."
                )
            ids += self.tokenizer.encode(before, add_special_tokens=False) + self.encode(message["content"])
        return ids + self.tokenizer.encode(rest, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


class TokenizedEngine:
    """The base of engines that have their policy's tokenizer; stands before other bases.

    Attributes:
        text: the tokenizer.
    """

    text: PolicyTokenizer

    def encode(self, text: str) -> list[int]:
        return self.text.encode(text)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        return self.text.encode_chat(messages)

    def decode(self, ids: Sequence[int]) -> str:
        return self.text.decode(ids)


def load_tokenizer(title: str, source: str, *, offline: bool) -> PolicyTokenizer:
    """The tokenizer of a model folder or hub id.

    Raises:
        ModelProblem: there is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=offline)
    except (OSError, ValueError) as problem:
        first = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise ModelProblem(
            f"The tokenizer of «{source}», which turns text into the server's token ids, cannot be loaded ({first}). "
            "Give --policy the folder or hub id that the server serves."
        ) from problem
    return PolicyTokenizer(title, tokenizer)
