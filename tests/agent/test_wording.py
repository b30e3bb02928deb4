"""Words and numbers of any text: nothing that a page may hold is an error."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from colsearcher.agent.wording import terms, tokens


def test_digits_that_are_no_decimals_are_words():
    assert tokens("chapter ፩ of 𐩀") == ["chapter", "፩", "of", "𐩀"]
    assert terms("chapter ፩2") == ["chapter", "፩", "2"]


def test_every_character_can_be_read():
    for code in range(sys.maxunicode + 1):
        if not 0xD800 <= code < 0xE000:
            tokens(chr(code))


@given(st.text())
def test_any_text_can_be_read(text):
    assert all(tokens(text)) and all(terms(text))
