"""Which word of a question each token of a prompt stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_WORD = re.compile(r"\w+")
# A prompt's text may join with the first and last tokens of the question, which then differ from those of the question alone.
_LOOSE = 2


def query_words(text: str, ids: Sequence[int], tokenizer: Any) -> list[str | None]:
    """For each token of a processed query the word, lower case, that it belongs to; "" for punctuation between words.

    Prompt, template and augmentation tokens get None. They are found by looking for the tokens of the question alone in those
    of the prompt; a token at its edge may differ. A question that is not found as a whole belongs to no word: all are "".

    Args:
        ids: the tokens of the prompt, without padding.
        tokenizer: a fast tokenizer.
    """
    alone = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = alone["offset_mapping"]
    tokens = list(alone["input_ids"])
    for loose in sorted((head + tail, head, tail) for head in range(_LOOSE + 1) for tail in range(_LOOSE + 1)):
        _, head, tail = loose
        inner = tokens[head : len(tokens) - tail]
        at = _find(ids, inner) - head if inner else -1
        if at >= 0 and at + len(tokens) <= len(ids):
            words: list[str | None] = [None] * len(ids)
            words[at : at + len(tokens)] = [_word_at(text, *span) for span in spans]
            return words
    return [""] * len(ids)


def _find(ids: Sequence[int], wanted: Sequence[int]) -> int:
    """Where a run of ids begins, the last place of several (templates come first); a large negative number for nowhere."""
    for at in range(len(ids) - len(wanted), -1, -1):
        if list(ids[at : at + len(wanted)]) == list(wanted):
            return at
    return -len(ids) - 1


def _word_at(text: str, start: int, stop: int) -> str:
    for word in _WORD.finditer(text):
        if word.start() < stop and start < word.end():
            return word.group().lower()
    return ""
