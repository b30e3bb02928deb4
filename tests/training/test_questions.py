import json

import pytest

from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.training.question import GoldBox
from colsearcher.training.questions import load_questions


def write(path, *records):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


PAGE = {"id": 1, "doc": "a.pdf", "question": "Q?", "answers": ["x"], "evidence_pages": [3, 4]}


def test_records_about_pages(tmp_path):
    spanning = {**PAGE, "id": "2", "evidence": ["a.pdf#p=3", "b.pdf#p=1"]}
    first, second, none = load_questions(write(tmp_path / "qa.jsonl", PAGE, "", spanning, {**PAGE, "evidence_pages": []}))
    assert first.evidence == {Address("a.pdf", 3), Address("a.pdf", 4)} and first.id == "1"
    assert second.evidence == {Address("a.pdf", 3), Address("b.pdf", 1)}
    assert none.evidence == frozenset()


def test_records_with_their_own_paragraphs(tmp_path):
    record = {"id": "h", "question": "Q?", "answers": ["x"], "context": [{"title": "T", "sentences": ["One.", "  Two."]}]}
    (question,) = load_questions(
        write(tmp_path / "qa.jsonl", {**record, "supporting_facts": [{"title": "T", "sent_id": None}]})
    )
    assert question.context[0].text == "One. Two." and question.evidence == {Address("T", 1)}


def test_the_files_of_docvqa_and_its_kin(tmp_path):
    single = {"questionId": 49153, "question": "What?", "image": "documents/pybv0228_81.png", "docId": 1, "answers": ["a", "b"]}
    several = {
        "questionId": 7,
        "question": "Q?",
        "doc_id": "n",
        "page_ids": ["n_p0", "n_p1"],
        "answers": ["x"],
        "answer_page_idx": 1,
    }
    graphic = {"questionId": 8, "question": "Q?", "image_local_name": "20471.jpeg", "answers": ["3"]}
    path = tmp_path / "val_v1.0.json"
    path.write_text(json.dumps({"dataset_name": "SP-DocVQA", "data": [single, several, graphic]}))
    questions = load_questions(path)
    assert [question.id for question in questions] == ["49153", "7", "8"]
    assert questions[0].answers == ("a", "b") and all(question.answerable for question in questions)
    gold = [str(place) for question in questions for place in question.evidence]
    assert gold == ["documents/pybv0228_81.png#p=1", "n_p1.jpg#p=1", "20471.jpeg#p=1"]
    path.write_text(json.dumps([{**several, "answer_page_idx": 2}]))
    with pytest.raises(UserError, match="answer_page_idx is 2, and there are 2 page_ids"):
        load_questions(path)
    for text, sentence in (('{"data": 3}', "holds no list of questions"), ("{", "named .jsonl")):
        path.write_text(text)
        with pytest.raises(UserError, match=sentence):
            load_questions(path)


def test_questions_whose_pages_are_not_known_are_not_unanswerable(tmp_path):
    bare = {"id": "r1", "question": "Who?", "answer": "Ada Finch"}
    first, second = load_questions(write(tmp_path / "qa.jsonl", bare, {**PAGE, "evidence_pages": []}))
    assert first.answerable and first.evidence == frozenset() and first.answers == ("Ada Finch",)
    assert not second.answerable


def test_boxes_on_the_pages_with_and_without_words(tmp_path):
    page, other = "a.pdf#p=3&box=0.1,0.2,0.5,0.4", "b.pdf#p=1&box=0,0,1,0.5"
    given = [{"address": page, "words": "RED ring"}, {"address": other}]
    record = {**PAGE, "question": "A red, ring?", "evidence": ["a.pdf#p=3", "b.pdf#p=1"], "boxes": given}
    (question,) = load_questions(write(tmp_path / "qa.jsonl", record))
    assert question.boxes == (GoldBox(Address.parse(page), "RED ring"), GoldBox(Address.parse(other)))
    assert question.boxes[0].page == Address("a.pdf", 3) and question.boxes[1].box == (0, 0, 1, 0.5)


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path):
    path = tmp_path / "qa.jsonl"
    path.write_text(json.dumps({**PAGE, "question": "One\u2028two?"}, ensure_ascii=False) + "\n")
    assert load_questions(path)[0].text == "One\u2028two?"


def test_a_limit_stops_early(tmp_path):
    with pytest.raises(UserError, match="at least one question"):
        load_questions(tmp_path / "qa.jsonl", limit=0)
    assert len(load_questions(write(tmp_path / "qa.jsonl", PAGE, PAGE, "not json"), limit=2)) == 2


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["{"], r"qa\.jsonl:1 is not JSON"),
        (["[1]"], "is not a JSON object"),
        ([PAGE, {"id": 2}], r"qa\.jsonl:2 has something missing or of the wrong type \('answer'\)"),
        ([{**PAGE, "evidence_pages": "12"}], "evidence_pages is not a list of int"),
        ([{**PAGE, "evidence_pages": ["x"]}], "evidence_pages is not a list of int"),
        ([{**PAGE, "evidence_pages": [0]}], "count from 1"),
        ([{**PAGE, "answers": "abc"}], "answers is not a list of str"),
        ([{**PAGE, "question": 5}], "question is not str"),
        ([], "holds no questions"),
        ([{**PAGE, "evidence": ["a.pdf"]}], "is not a page address"),
        ([{**PAGE, "boxes": [{"address": "a.pdf#p=3"}]}], r"qa\.jsonl:1 .*«a.pdf#p=3», which has no box"),
        ([{**PAGE, "boxes": [{"address": "a.pdf#p=5&box=0,0,1,1"}]}], "not on one of the question's pages"),
        ([{**PAGE, "boxes": [{"address": "a.pdf#p=3&box=0,0,1,1", "words": "ring"}]}], "«ring».* do not follow each other"),
        ([{**PAGE, "boxes": [{"address": "a.pdf#p=3&box=0,0,1,1", "words": ""}]}], "«».* do not follow each other"),
        ([{**PAGE, "boxes": [{"words": "Q"}]}], "'address'"),
        ([{**PAGE, "boxes": "a.pdf#p=3&box=0,0,1,1"}], "boxes is not a list of dict"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, lines, sentence):
    with pytest.raises(UserError, match=sentence):
        load_questions(write(tmp_path / "qa.jsonl", *lines))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_questions(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        load_questions(tmp_path / "binary")
