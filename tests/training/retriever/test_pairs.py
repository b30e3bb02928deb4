import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colsearcher.indexes.errors import UserError
from colsearcher.training.retriever import evaluation, pairs, practice_pages, trainer
from colsearcher.training.retriever.pairs import batches, endless, pairs_of, steps_of

QUESTIONS = st.lists(st.tuples(st.integers(0, 30).map(str), st.lists(st.integers(0, 12).map(str), min_size=1)), min_size=1)


def test_doctests():
    for module in (pairs, evaluation, practice_pages, trainer):
        found = doctest.testmod(module)
        assert found.attempted and not found.failed


@settings(deadline=None)
@given(QUESTIONS, st.integers(2, 5), st.integers(0, 3))
def test_no_page_of_a_batch_answers_another_of_its_questions(asked, size, epoch):
    learned = pairs_of(asked)
    made = batches(learned, size, seed=0, epoch=epoch)
    used = [i for batch in made for i in batch]
    assert len(used) == len(set(used)) and all(len(batch) == size for batch in made)
    for batch in made:
        for i in batch:
            assert all(learned[j].page not in learned[i].gold for j in batch if j != i)
    assert made == batches(learned, size, seed=0, epoch=epoch)


def test_pairs_about_one_page_are_learned_from_in_different_batches():
    learned = pairs_of([(f"question {i}", [f"page {i // 2}"]) for i in range(40)])
    seen = set()
    for batch in batches(learned, 4, seed=3, epoch=0):
        assert len({learned[i].page for i in batch}) == 4
        seen.update(batch)
    assert len(seen) >= 36
    assert batches(learned, 4, seed=3, epoch=1) != batches(learned, 4, seed=3, epoch=0)


def test_a_batch_that_cannot_be_filled_is_refused_at_once():
    same = pairs_of([(str(i), ["the page"]) for i in range(50)])
    with pytest.raises(UserError, match="do not fill one step of 2"):
        steps_of(same, 2, 1, seed=0, epochs=5)
    with pytest.raises(UserError):
        next(endless(same, 2, seed=0))
    with pytest.raises(UserError, match="--batch 2"):
        steps_of(same, 1, 1, seed=0, epochs=1)
