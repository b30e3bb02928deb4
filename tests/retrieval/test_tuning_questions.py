import pytest
from fake_pages import MANIFEST, document, page

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.page_index import PageIndex
from colsearcher.retrieval.tuning_questions import read_questions, sample_questions

WORDS = "The ferry to Lindholm leaves at nine in the morning and comes back before the evening bell".split()


@pytest.fixture
def index(tmp_path):
    """A page of words, one of too few, one that begins with the dots of a table of contents, one of dots alone."""
    texts = [" ".join(WORDS), "Too few words", ". " * 30 + " ".join(WORDS), ". " * 40]
    with PageIndex.create(tmp_path / "index", MANIFEST) as index, index.writing():
        pages = [page("a.pdf", n, text=text) for n, text in enumerate(texts, 1)]
        index.add([document("a.pdf", len(pages))], pages)
        yield index


def test_questions_are_runs_of_words_from_the_pages(index):
    asked = [question for seed in range(40) for question in sample_questions(index, 4, seed)]
    assert len(asked) > 40 and sample_questions(index, 4, 7) == sample_questions(index, 4, 7)
    whole = ". " * 40 + " ".join(WORDS)
    for question in asked:
        assert 6 <= len(question.split()) <= 16 and question in whole
        assert any(map(str.isalnum, question)), question
    assert any("." in question for question in asked)  # dots beside words are nothing to leave out
    assert len(sample_questions(index, 1)) == 1


def test_own_questions_are_the_lines_of_a_file(tmp_path):
    file = tmp_path / "questions.txt"
    file.write_text("Where is the ferry?\n\n  When does it leave?  \n")
    assert read_questions(file) == ["Where is the ferry?", "When does it leave?"]
    for content, sentence in ((b"\n \n", "has no question"), (b"\xff", "cannot be read")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=sentence):
            read_questions(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_questions(tmp_path / "none.txt")
