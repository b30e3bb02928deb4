import dataclasses
from pathlib import Path

import numpy as np
import pytest
from documents import picture, scanned_pdf
from PIL import Image

from colsearcher.indexes.errors import ModelProblem
from colsearcher.retrieval import ocr
from colsearcher.retrieval.corpus import Source
from colsearcher.retrieval.ocr import OcrEngine, words_of_line
from colsearcher.retrieval.page_reader import PageReader, ReadSettings


@pytest.fixture(scope="module")
def engine() -> OcrEngine:
    return OcrEngine(threads=1)


def test_a_picture_is_read_and_the_boxes_hold_its_ink(engine: OcrEngine) -> None:
    image = picture(["Revenue grew by 12%", "in the third quarter"])
    words = engine.words(image)
    assert [word.text for word in words] == "Revenue grew by 12% in the third quarter".split()
    ink = np.asarray(image.convert("L")) < 128
    outside = ink.copy()
    for word in words:
        x0, y0, x1, y1 = (round(v * image.size[i % 2]) for i, v in enumerate(word.box))
        assert ink[y0:y1, x0:x1].sum() > 50, word
        outside[y0:y1, x0:x1] = False
    assert outside.sum() < 0.1 * ink.sum()


def test_nothing_is_read_from_a_smooth_picture(engine: OcrEngine) -> None:
    assert engine.words(Image.linear_gradient("L")) == ()


def test_pieces_of_a_line_are_joined_into_its_words() -> None:
    pieces = [(text, 0.9, [[x, 0], [x + 10, 0], [x + 10, 10], [x, 10]]) for text, x in (("年", 0), ("报", 10), ("2024", 30))]
    words = words_of_line("年报 2024", pieces, (100, 100))
    assert [(word.text, word.box) for word in words] == [("年报", (0, 0, 0.2, 0.1)), ("2024", (0.3, 0, 0.4, 0.1))]
    assert [word.text for word in words_of_line("something else", pieces, (100, 100))] == ["年", "报", "2024"]


def test_only_the_pinned_weights_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    detection, recognition = ocr.WEIGHTS
    monkeypatch.setattr(ocr, "WEIGHTS", (detection, dataclasses.replace(recognition, sha256="0" * 64)))
    with pytest.raises(ModelProblem, match="not to the pinned"):
        OcrEngine(threads=1)


def test_a_scan_under_a_stamp_and_an_empty_page(tmp_path: Path) -> None:
    scan = picture(["The court orders", "the forfeiture of a pen"], at=(60, 120))
    path = scanned_pdf(tmp_path / "a.pdf", scan, "Case 2:18-cv-12857 filed 09/13/18 Page 1")
    source = Source("a.pdf", path, "pdf")
    with PageReader(ReadSettings(ocr="never")) as reader:
        page = reader.page(source, 1)
        assert (page.ocr_reason, page.word_source, len(page.words)) == ("stamp", "text", 6)
    with PageReader(ReadSettings()) as reader:
        page, empty = reader.page(source, 1), reader.page(source, 2)
    assert page.text == "Case 2:18-cv-12857 filed 09/13/18 Page 1 The court orders the forfeiture of a pen"
    assert (page.ocr_reason, page.word_source, page.blank) == ("stamp", "ocr", False)
    assert (empty.ocr_reason, empty.word_source, empty.blank, empty.words) == (None, "none", True, ())


def test_an_image_file_is_a_page(tmp_path: Path) -> None:
    picture(["Invoice number 4711"], size=(600, 200)).save(tmp_path / "a.png", dpi=(144, 144))
    with PageReader(ReadSettings()) as reader:
        page = reader.page(Source("a.png", tmp_path / "a.png", "image"), 1)
    assert page.text == "Invoice number 4711"
    assert page.size == pytest.approx((300, 100), rel=0.001)
    assert page.image.renderer == "image"
    assert page.ocr_reason == "no text"
