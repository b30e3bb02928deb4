import pickle
from array import array

from colsearcher.retrieval.page import Page, Word, Words

PAIR = (Word("red", (0.1, 0.2, 0.3, 0.4)), Word("tulip", (0.5, 0.2, 0.9, 0.4)))


def test_words_are_the_sequence_that_they_stand_for() -> None:
    words = Words.of(PAIR)
    assert words == PAIR and list(words) == list(PAIR) and len(words) == 2
    assert words[1] == PAIR[1] and words[-2] == PAIR[0] and words[1:] == PAIR[1:]
    assert words != PAIR[:1] and words != (PAIR[1], PAIR[0])
    assert Words.of(words) is words and Words.of(()) == () and not Words([], array("d"))


def test_words_and_their_text_go_through_a_pipe() -> None:
    page = Page("a.pdf", 1, None, (595.0, 842.0), Words.of((*PAIR, Word("two words", (0.0, 0.0, 1.0, 1.0)))), "text")
    assert pickle.loads(pickle.dumps(page)) == page
    assert page.text == "red tulip two words"
