"""Questions of other formats, and what they are about."""

import json

import pytest
from datasets import Dataset, Image
from PIL import Image as Picture

from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.passages import read_passages
from colsearcher.training.policy.importing import import_questions
from colsearcher.training.questions import load_questions

TEXTS = {"Heron Shoal": "The light was built by Ada Finch & sons in 1871.", "Ada Finch": "Ada Finch was born in Wick. " * 150}


@pytest.fixture
def records(tmp_path):
    context = [{"title": title, "sentences": [text]} for title, text in TEXTS.items()]
    path = tmp_path / "hotpot.jsonl"
    asked = [("1", "Who built it?", ["Ada Finch"], "Heron Shoal"), ("2", "Where was she born?", ["Wick"], "Ada Finch")]
    lines = [
        {"id": name, "question": text, "answers": answers, "context": context, "supporting_facts": [{"title": title}]}
        for name, text, answers, title in asked
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_paragraphs_as_passages(records, tmp_path):
    done = import_questions(str(records), tmp_path / "out")
    assert done.count == 2 and "--search" in done.lines()[-1]
    assert dict(read_passages(done.passages).documents) == {
        title: (f"{title}. {text.strip()}",) for title, text in TEXTS.items()
    }
    before, after = load_questions(records), load_questions(done.questions)
    assert [(q.id, q.text, q.answers, q.evidence) for q in before] == [(q.id, q.text, q.answers, q.evidence) for q in after]
    with pytest.raises(UserError, match="not empty"):
        import_questions(str(records), tmp_path / "out")


def test_paragraphs_as_pages_that_hold_their_words(records, tmp_path):
    import pypdfium2

    done = import_questions(str(records), tmp_path / "out", as_pages=True)
    (pdf,) = done.pages.iterdir()
    with pypdfium2.PdfDocument(pdf) as document:
        words = [" ".join(page.get_textpage().get_text_range().split()) for page in document]
    assert len(words) == 2, "a long paragraph is one page too"
    for question in load_questions(done.questions):
        (place,) = question.evidence
        assert place.document == pdf.name and all(answer in words[place.page - 1] for answer in question.answers)
    assert "Ada Finch & sons in 1871." in words[0] and words[1].count("Wick") == 150


def test_a_dataset_with_page_images(tmp_path):
    for name, colour in (("a", "red"), ("b", "blue")):
        Picture.new("RGB", (40, 30), colour).save(tmp_path / f"{name}.png")
    rows = {
        "questionId": [7, 8, 9],
        "question": ["Which red?", "Which blue?", "Which red again?"],
        "answers": [["a"], ["b", "B"], ["c"]],
        "image": [str(tmp_path / f"{name}.png") for name in "aba"],
        "ucsf_document_id": ["xnbl", "qrst", "xnbl"],
        "ucsf_document_page_no": ["3", "1", "3"],
    }
    Dataset.from_dict(rows).cast_column("image", Image()).save_to_disk(str(tmp_path / "docvqa"))
    done = import_questions(str(tmp_path / "docvqa"), tmp_path / "out")
    assert sorted(path.name for path in done.pages.iterdir()) == ["qrst_1.png", "xnbl_3.png"]
    first, second, third = load_questions(done.questions)
    assert (first.id, second.answers) == ("7", ("b", "B")) and first.evidence == third.evidence != second.evidence
    with Picture.open(done.pages / "xnbl_3.png") as shown:
        assert shown.getpixel((5, 5)) == (255, 0, 0)


def test_other_question_files_are_written_as_ours(tmp_path):
    path = tmp_path / "rrc.json"
    record = {"questionId": 3, "question": "Who?", "answers": ["Ada"], "image": "documents/a_1.png", "data_split": "val"}
    path.write_text(json.dumps({"data": [record]}))
    done = import_questions(str(path), tmp_path / "out")
    assert json.loads(done.questions.read_text()) == {
        "id": "3",
        "question": "Who?",
        "answers": ["Ada"],
        "evidence": ["documents/a_1.png#p=1"],
    }


def test_a_dataset_without_answers(tmp_path):
    Dataset.from_dict({"question": ["Who?"]}).save_to_disk(str(tmp_path / "bare"))
    with pytest.raises(UserError, match="needs question and answers"):
        import_questions(str(tmp_path / "bare"), tmp_path / "out")


def test_answers_of_a_dataset_are_texts_however_they_are_kept(tmp_path):
    question = {"question": ["Where?", "When?"]}
    kept = {
        "text": ["Paris", "1871"],
        "squad": [{"text": ["Paris"], "answer_start": [3]}, {"text": ["1871", "in 1871"], "answer_start": [1, 2]}],
    }
    for name, answers in kept.items():
        Dataset.from_dict({**question, "answers": answers}).save_to_disk(str(tmp_path / name))
        first, second = load_questions(import_questions(str(tmp_path / name), tmp_path / f"{name}-out").questions)
        assert first.answers == ("Paris",) and second.answers[0] == "1871"
    Dataset.from_dict({**question, "answers": [[1], [2]]}).save_to_disk(str(tmp_path / "numbers"))
    with pytest.raises(UserError, match="Row 1 of the dataset has the answers"):
        import_questions(str(tmp_path / "numbers"), tmp_path / "numbers-out")
