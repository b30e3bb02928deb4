"""The sample corpus: the same bytes each time, and every answer stands where its record says."""

from __future__ import annotations

import json
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image

from colsearcher.indexes.address import Address
from colsearcher.retrieval.sample import facts
from colsearcher.retrieval.sample.corpus import SampleCorpus, write_sample_corpus
from colsearcher.retrieval.sample.sheet import Sheet

PICTURES = {(facts.LETTER, 1), (facts.LETTER, 2), (facts.SLIDES, 6), (facts.FLYER, 1)}
PAGES = {facts.REPORT: 10, facts.MANUAL: 9, facts.LETTER: 2, facts.SLIDES: 8}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> SampleCorpus:
    return write_sample_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def texts(corpus: SampleCorpus) -> dict[tuple[str, int], str]:
    """The text layer of each page by (document, page)."""
    found = {}
    for path in corpus.documents:
        if path.suffix == ".pdf":
            with pypdfium2.PdfDocument(path) as document:
                for number in range(len(document)):
                    found[path.name, number + 1] = document[number].get_textpage().get_text_range()
    return found


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def squeeze(text: str) -> str:
    return " ".join(text.split())


def test_same_seed_gives_the_same_bytes_and_another_seed_another_scan(corpus: SampleCorpus, tmp_path: Path) -> None:
    again = write_sample_corpus(tmp_path / "again")
    other = write_sample_corpus(tmp_path / "other", seed=1)
    for first, second in zip(corpus.documents, again.documents, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
    assert corpus.questions.read_bytes() == again.questions.read_bytes()
    changed = [a.name for a, b in zip(corpus.documents, other.documents, strict=True) if a.read_bytes() != b.read_bytes()]
    assert changed == [facts.LETTER]


def test_pages_sizes_and_text_layers(corpus: SampleCorpus, texts: dict[tuple[str, int], str]) -> None:
    assert {name: sum(document == name for document, _ in texts) for name in PAGES} == PAGES
    without_text = {page for page, text in texts.items() if not text.strip()}
    assert without_text == {(facts.LETTER, 1), (facts.LETTER, 2), (facts.SLIDES, 6), (facts.REPORT, 10)}
    with pypdfium2.PdfDocument(corpus.documents[1]) as manual:
        assert [page for page in range(1, 10) if manual.get_page_size(page - 1)[0] > manual.get_page_size(page - 1)[1]] == [6]
    with pypdfium2.PdfDocument(corpus.documents[0]) as report:
        extrema = report[9].render(scale=0.2).to_pil().convert("L").getextrema()
        assert extrema == (255, 255), "the last page of the report is blank"


def test_ids_are_unique_and_every_address_names_a_page_of_the_corpus(corpus: SampleCorpus) -> None:
    rows = records(corpus.questions) + records(corpus.unanswerable)
    assert len({row["id"] for row in rows}) == len(rows) == 46
    for row in rows:
        evidence = [Address.parse(text) for text in row["evidence"]]
        assert row["evidence_pages"] == [a.page for a in evidence if a.document == row["doc"]]
        boxed = [Address.parse(box["address"]) for box in row["boxes"]]
        assert all(a.box is not None for a in boxed)
        assert {(a.document, a.page) for a in boxed} <= {(a.document, a.page) for a in evidence}
        assert all(1 <= a.page <= PAGES.get(a.document, 1) for a in evidence)
        assert (corpus.questions.parent / row["doc"]).exists()


def test_two_page_questions_span_documents_and_unanswerable_ones_have_no_evidence(corpus: SampleCorpus) -> None:
    pairs = [row for row in records(corpus.questions) if len(row["evidence"]) == 2]
    assert len(pairs) == 6
    assert sum(len({text.split("#")[0] for text in row["evidence"]}) == 2 for row in pairs) == 5
    for row in records(corpus.unanswerable):
        assert (row["answers"], row["evidence"], row["evidence_pages"], row["boxes"]) == (["Not answerable"], [], [], [])


def test_answers_stand_in_their_boxes(corpus: SampleCorpus, texts: dict[tuple[str, int], str]) -> None:
    checked = 0
    for row in records(corpus.questions):
        (address,) = [Address.parse(box["address"]) for box in row["boxes"]]
        if (address.document, address.page) in PICTURES:
            continue
        assert row["answers"][0] in squeeze(texts[address.document, address.page]), row["id"]
        with pypdfium2.PdfDocument(corpus.questions.parent / address.document) as document:
            page = document[address.page - 1]
            width, height = page.get_size()
            x0, y0, x1, y1 = address.box or (0, 0, 0, 0)
            inside = page.get_textpage().get_text_bounded(x0 * width, (1 - y1) * height, x1 * width, (1 - y0) * height)
        assert row["answers"][0] in squeeze(inside), row["id"]
        assert len(squeeze(inside)) <= len(row["answers"][0]) + 2, f"{row['id']}: the box holds more than the answer"
        checked += 1
    assert checked == 33


def test_single_page_answers_of_several_words_stand_on_no_other_page(
    corpus: SampleCorpus, texts: dict[tuple[str, int], str]
) -> None:
    """Numbers may recur with another meaning; longer answers must not, or the evidence would not be the only one."""
    for row in records(corpus.questions):
        answer = row["answers"][0]
        if len(row["evidence"]) == 1 and len(answer) > 8:
            holders = {f"{name}#p={page}" for (name, page), text in texts.items() if answer in squeeze(text)}
            assert holders <= set(row["evidence"]), row["id"]


def test_bridging_facts_of_the_scan_are_not_in_any_text_layer_that_would_spare_it(texts: dict[tuple[str, int], str]) -> None:
    everything = " ".join(texts.values())
    for name in (facts.HARBOUR, facts.BAD_STATION.name, facts.NEW_DEPOT):
        assert name not in everything


def test_boxes_on_the_scan_cover_ink_and_follow_the_tilt(corpus: SampleCorpus) -> None:
    boxes = {row["id"]: Address.parse(row["boxes"][0]["address"]) for row in records(corpus.questions)}
    with pypdfium2.PdfDocument(corpus.documents[2]) as letter:
        for name in ("letter-deadline", "letter-signature", "letter-stamp", "letter-serial"):
            address = boxes[name]
            picture = letter[address.page - 1].render(scale=2).to_pil().convert("L")
            x0, y0, x1, y1 = (round(v * picture.size[i % 2]) for i, v in enumerate(address.box or (0, 0, 0, 0)))
            dark = picture.crop((x0, y0, x1, y1)).point(lambda v: 255 * (v < 140)).histogram()[255]
            assert 0.04 < dark / ((x1 - x0) * (y1 - y0)) < 0.5, name


def test_a_turned_sheet_moves_its_words_with_its_ink() -> None:
    sheet = Sheet((400, 300), (255, 255, 255))
    sheet.write((60, 40), "far from the middle", "bold", 20, (0, 0, 0))
    turned = sheet.turned(20, (255, 255, 255))
    ink = turned.image.convert("L").point(lambda v: 255 * (v < 128)).getbbox()
    assert ink is not None
    box = turned.find("far from the middle")
    for edge, drawn in zip((box[0] * 400, box[1] * 300, box[2] * 400, box[3] * 300), ink, strict=True):
        assert edge == pytest.approx(drawn, abs=9)
    with pytest.raises(LookupError):
        sheet.find("not there")


def test_facts_add_up() -> None:
    income = {name: (now, before) for name, now, before, _ in facts.INCOME}
    for year in (0, 1):
        value = {name: amounts[year] for name, amounts in income.items()}
        gross = value["Revenue"] + value["Cost of sales"]
        operating = gross + value["Research and development"] + value["Selling and administration"]
        before_tax = operating + value["Net finance cost"]
        assert gross == pytest.approx(value["Gross profit"])
        assert operating == pytest.approx(value["Operating profit"])
        assert before_tax == pytest.approx(value["Profit before tax"])
        assert before_tax + value["Income tax"] == pytest.approx(value["Net profit"])
    for shares in (facts.AGE_SHARES, facts.MARKET):
        assert sum(share for _, share in shares) == 100
    field_service = next(now for name, now, _ in facts.HEADCOUNT if name == "Field service")
    assert sum(depot.technicians for depot in facts.DEPOTS) == field_service
    assert facts.letter_contract().buoys == len(facts.STATIONS)


def test_the_flyer_is_a_picture(corpus: SampleCorpus) -> None:
    with Image.open(corpus.documents[4]) as flyer:
        assert flyer.size == (1000, 1414)
