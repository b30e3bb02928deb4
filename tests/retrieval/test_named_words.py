import doctest

from colsearcher.retrieval import named_words as module
from colsearcher.retrieval.named_words import has_words, named_words


def test_doctests():
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_a_run_is_found_wherever_it_stands_and_no_word_of_it_elsewhere():
    words = ["ring", "red", "ring", "", "red", "ring", "red"]
    assert named_words(words, "red ring").tolist() == [False, True, True, False, True, True, False]
    assert not named_words(words, "ring star").any()
    assert not named_words(words, "").any() and not named_words([], "red").any()


def test_pieces_of_a_word_are_one_word_and_special_tokens_none():
    assert named_words([None, "new", "new", "york", "york", "", None], "New York").tolist() == [
        False,
        *[True] * 4,
        False,
        False,
    ]
    assert has_words("V-118, in Wanderup", "118 IN") and not has_words("V-118", "11")
