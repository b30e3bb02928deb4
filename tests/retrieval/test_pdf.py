from pathlib import Path

import numpy as np
import pytest
from documents import endless_pdf, locked_pdf, packed_pdf, pageless_pdf, scanned_pdf, text_pdf, turned_pdf
from PIL import Image

from colsearcher.indexes.errors import FileProblem
from colsearcher.retrieval.pdf import PdfFile, _iso_date
from colsearcher.retrieval.textlayer import clean


def inked(picture: Image.Image) -> np.ndarray:
    """(height, width) True where the picture is dark."""
    return np.asarray(picture.convert("L")) < 128


@pytest.mark.parametrize("shift", [False, True], ids=["media at 0", "media shifted"])
@pytest.mark.parametrize("crop", [False, True], ids=["whole", "cropped"])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_word_boxes_hold_the_ink_of_the_page_as_shown(tmp_path: Path, turn: int, crop: bool, shift: bool) -> None:
    with PdfFile(turned_pdf(tmp_path / "a.pdf", turn, crop=crop, shift=shift)) as file:
        width, height = file.size(1)
        words = file.words(1)
        pixels = (round(2 * width), round(2 * height))
        ink = inked(file.draw(1, pixels))
    across, down = (230, 150) if crop else (340, 230) if shift else (300, 200)
    assert (width, height) == ((down, across) if turn in (90, 270) else (across, down))
    assert [word.text for word in words] == ["Quarterly", "profit", "grows"] + ([] if crop else ["margin"])
    assert ink.any()
    outside = ink.copy()
    for word in words:
        x0, y0, x1, y1 = (round(v * pixels[i % 2]) for i, v in enumerate(word.box))
        assert ink[y0:y1, x0:x1].sum() > 50, word
        assert (x1 - x0) * (y1 - y0) < 150 * 40, word
        outside[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = False
    assert not outside.any()


def test_words_are_clean(tmp_path: Path) -> None:
    path = text_pdf(tmp_path / "a.pdf", ["some infor-\nmation  is\u00a0here, \u00abyes\u00bb 100%"])
    with PdfFile(path) as file:
        words = file.words(1)
    assert [word.text for word in words] == ["some", "information", "is", "here,", "«yes»", "100%"]
    assert all(word.box[3] - word.box[1] < 0.1 for word in words), "a broken word's box spans one line"
    assert clean("e\ufb03cient\x00 so\u00adft \ue000\u200b x\u00b2") == "efficient soft x2"


def test_metadata(tmp_path: Path) -> None:
    path = text_pdf(tmp_path / "a.pdf", ["hello"], title="Über alles", author="A. Nonymous")
    with PdfFile(path) as file:
        assert file.metadata["title"] == "Über alles"
        assert file.metadata["author"] == "A. Nonymous"
        assert str(file.metadata["created"])[:2] == "20"
    assert _iso_date("D:2024") == "2024-01-01T00:00:00"
    assert _iso_date("D:20240229133000Z") == "2024-02-29T13:30:00+00:00"
    assert _iso_date("D:20231399") is None
    assert _iso_date("last Tuesday") is None


@pytest.mark.parametrize("junk", [100, 1_200, 900_000])
def test_junk_before_the_header_is_cut_away(tmp_path: Path, junk: int) -> None:
    path = text_pdf(tmp_path / "a.pdf", ["still here"], title="Kept", author="Kept too")
    path.write_bytes(b"\0HTTP/1.1 200 OK\r\n"[:17].ljust(junk, b"\n") + path.read_bytes())
    with PdfFile(path) as file:
        assert [word.text for word in file.words(1)] == ["still", "here"]
        assert file.metadata["title"] == "Kept"
        assert file.recovered


def test_junk_before_objects_in_streams(tmp_path: Path) -> None:
    path = packed_pdf(tmp_path / "a.pdf")
    with PdfFile(path) as file:
        assert not file.recovered
    path.write_bytes(b"\n" * 5000 + path.read_bytes())
    with PdfFile(path) as file:
        assert file.recovered
        assert [word.text for word in file.words(1)] == ["packed", "words"]


@pytest.mark.parametrize("kept", [0.999, 0.95, 0.85])
def test_a_cut_file_is_repaired_and_says_so(tmp_path: Path, kept: float) -> None:
    path = text_pdf(tmp_path / "a.pdf", [f"page number {number}" for number in range(20)])
    with PdfFile(path) as file:
        assert not file.recovered
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with PdfFile(path) as file:
        assert file.recovered
        assert file.pages == 20
        assert file.size(20) == (300, 200)


def test_a_file_cut_in_its_last_bytes_loses_no_word(tmp_path: Path) -> None:
    path = text_pdf(tmp_path / "a.pdf", [f"page number {number}" for number in range(20)])
    path.write_bytes(path.read_bytes().rpartition(b"trailer")[0])
    with PdfFile(path) as file:
        assert file.recovered
        texts = [" ".join(word.text for word in file.words(number)) for number in range(1, 21)]
        assert texts == [f"page number {number}" for number in range(20)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "The file is empty."),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>%PDF", "looks like a web page"),
        (b"PK\x03\x04....", "looks like a ZIP archive"),
        (b"\x89PNG\r\n", "looks like a PNG image"),
        (b"Dear Sir or Madam,\n", "looks like a text file"),
        (b"\x01\x02\x03", "looks like something else"),
        (b"%PDF-1.7\nnothing more", "broken beyond repair"),
        (b"x" * 2_000_000 + b"%PDF-1.7", "not a PDF"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(content)
    with pytest.raises(FileProblem, match=reason) as problem:
        PdfFile(path)
    assert str(problem.value).count(". ") == 0, "one sentence"


def test_locked_and_pageless_and_missing(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="encrypted with a password"):
        PdfFile(locked_pdf(tmp_path / "a.pdf"))
    (tmp_path / "a.pdf").write_bytes(b"x" * 5000 + (tmp_path / "a.pdf").read_bytes())
    with pytest.raises(FileProblem, match="encrypted with a password"):
        PdfFile(tmp_path / "a.pdf")
    with pytest.raises(FileProblem, match="no pages"):
        PdfFile(pageless_pdf(tmp_path / "b.pdf"))
    with pytest.raises(FileProblem, match="no such file"):
        PdfFile(tmp_path / "c.pdf")
    with PdfFile(text_pdf(tmp_path / "d.pdf", ["one"])) as file, pytest.raises(FileProblem, match="Page 2 is missing"):
        file.words(2)


def test_a_name_that_is_not_utf8_opens(tmp_path: Path) -> None:
    path = text_pdf(tmp_path / "a.pdf", ["hello"]).rename(tmp_path / "caf\udce9.pdf")
    with PdfFile(path) as file:
        assert file.pages == 1


def test_image_share(tmp_path: Path) -> None:
    with PdfFile(scanned_pdf(tmp_path / "a.pdf", Image.new("RGB", (60, 40), "red"))) as file:
        assert file.image_share(1) == pytest.approx(1.0, abs=0.01)
        assert file.image_share(2) == 0.0


def test_the_endless_document_has_good_pages(tmp_path: Path) -> None:
    with PdfFile(endless_pdf(tmp_path / "a.pdf")) as file:
        assert file.pages == 3
        assert len(file.words(3)) == 7
