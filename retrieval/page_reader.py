"""One document at a time, in this process: from a source to `Page`s. `reading` runs many of these side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.corpus import Source
from colsearcher.retrieval.page import Page, PageImage, Renderer, Word, WordSource
from colsearcher.retrieval.render import MAX_PIXELS, PICTURE_DPI, OpenFile, draw_page, is_blank, open_file
from colsearcher.retrieval.scans import FEW, STAMP, merge_words, needs_ocr

if TYPE_CHECKING:
    from PIL import Image

    from colsearcher.retrieval.ocr import OcrEngine

OcrMode = Literal["auto", "never", "always"]


@dataclass(frozen=True)
class ReadSettings:
    """How to read pages.

    Attributes:
        renderer: what draws PDF pages: "pdfium" or "poppler". Words of a text layer always come from pdfium.
        ocr: "auto" reads the pixels of pages whose text layer does not do (see `scans.needs_ocr`), "always" of every
            page, in place of its text layer, "never" of none.
        ocr_side: the longer side in pixels of the pictures that OCR reads.
        page_seconds: a page that takes longer is given up and reported.
        max_pixels: no page is drawn with more pixels than this.
        picture_pixels: draw every page with at most so many pixels and keep the picture; 0 keeps none.
        workers: reading processes; None for as many as there is need of, at most one per processor.
        worker_bytes: the memory that one reading process may take, on Linux; a page that needs more is reported.

    Raises:
        UserError: a value is out of range.
    """

    renderer: Literal["pdfium", "poppler"] = "pdfium"
    ocr: OcrMode = "auto"
    ocr_side: int = 1600
    page_seconds: float = 60.0
    max_pixels: int = MAX_PIXELS
    picture_pixels: int = 0
    workers: int | None = None
    worker_bytes: int = 6 << 30

    def __post_init__(self) -> None:
        if self.renderer not in ("pdfium", "poppler"):
            raise UserError(f"There is no renderer «{self.renderer}»; choose pdfium or poppler.")
        if self.ocr not in get_args(OcrMode):
            raise UserError(f"There is no OCR mode «{self.ocr}»; choose auto, never or always.")
        for name in ("ocr_side", "page_seconds", "max_pixels", "workers", "worker_bytes"):
            value = self.__dict__[name]
            if value is not None and not value > 0:
                raise UserError(f"{name} is {value}; it must be more than 0.")


@dataclass(frozen=True)
class DocumentInfo:
    """What is known of a document before its pages are read.

    Attributes:
        document: its id.
        pages: how many pages it has.
        recovered: the file is damaged and was repaired; pages, fonts or pictures may be missing.
        metadata: title, author, subject, keywords, created: those that the file gives.
    """

    document: str
    pages: int
    recovered: bool = False
    metadata: dict[str, object] = field(default_factory=dict)


class PageReader:
    """Reads pages; keeps the last document and the OCR engine open. A context manager.

    Args:
        settings: how to read.
        threads: processor threads that OCR may use.
    """

    def __init__(self, settings: ReadSettings, threads: int = 1) -> None:
        self._settings = settings
        self._threads = threads
        self._ocr: OcrEngine | None = None
        self._file: OpenFile | None = None
        self._source: Source | None = None

    def __enter__(self) -> PageReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._source = None

    def info(self, source: Source) -> DocumentInfo:
        """Open a document and count its pages.

        Raises:
            FileProblem: the file cannot be opened.
        """
        file = self._open(source)
        return DocumentInfo(source.document, file.pages, file.recovered, file.metadata)

    def page(self, source: Source, number: int) -> Page:
        """Read a page.

        Raises:
            FileProblem: the page cannot be read or drawn.
            ModelProblem: OCR is needed and its weights are not the pinned ones.
            MissingExtra: the renderer is poppler and it is not installed.
        """
        file = self._open(source)
        renderer: Renderer = "image" if source.kind == "image" else self._settings.renderer
        image = PageImage(source.path, number, renderer)
        layer = words = file.words(number)
        from_where: WordSource = "text" if words else "none"
        reason = needs_ocr(len(layer), file.image_share(number) if FEW <= len(layer) < STAMP else 0.0)
        mode = self._settings.ocr
        blank = False
        if not layer or mode == "always" or (mode == "auto" and reason is not None):
            picture = draw_page(
                file,
                image,
                max_side=self._settings.ocr_side,
                max_pixels=self._settings.max_pixels,
                seconds=self._settings.page_seconds,
            )
            blank = not layer and is_blank(picture)
            if blank:
                reason = None
            elif mode != "never":
                seen = self._ocr_words(picture)
                words = seen if mode == "always" else merge_words(layer, seen)
                from_where = "ocr" if seen else "text" if words else "none"
        kept = None
        if self._settings.picture_pixels:
            pixels = min(self._settings.picture_pixels, self._settings.max_pixels)
            kept = draw_page(file, image, dpi=PICTURE_DPI, max_pixels=pixels, seconds=self._settings.page_seconds)
        return Page(
            document=source.document,
            number=number,
            image=image,
            size=file.size(number),
            words=words,
            word_source=from_where,
            blank=blank,
            ocr_reason=reason,
            metadata=file.metadata,
            picture=kept,
        )

    def _open(self, source: Source) -> OpenFile:
        if self._file is None or self._source != source:
            self.close()
            self._file = open_file(source.path, "image" if source.kind == "image" else "pdfium")
            self._source = source
        return self._file

    def _ocr_words(self, picture: Image.Image) -> tuple[Word, ...]:
        if self._ocr is None:
            # numpy and the recogniser take seconds to import, and most corpora need neither.
            from colsearcher.retrieval.ocr import OcrEngine

            self._ocr = OcrEngine(self._threads, self._settings.ocr_side)
        return self._ocr.words(picture)
