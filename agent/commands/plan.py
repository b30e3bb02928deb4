"""`colsearcher plan`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from colsearcher.agent.flags import argument, option
from colsearcher.agent.terminal import duration, show, show_json, size, tell
from colsearcher.indexes.errors import UserError


@dataclass(frozen=True)
class Plan:
    """Say what `index add` would do, before it does it: pages, how many need OCR, time and disk expected from three pages
    measured here, the models used and where they come from, the files that cannot be read."""

    paths: tuple[Path, ...] = argument("PDF files, images, or folders of them")
    index: Path | None = option("an index: plan only what it lacks", default=None, metavar="DIR")
    embedder: str | None = option(
        "what turns pages into vectors (default: that of the index; minilm for a new one)", default=None
    )
    codec: Literal["fp16", "int8", "4bit", "2bit", "1bit"] | None = option(
        "how a new index would store vectors (default: 4bit)", default=None
    )
    drop_originals: bool = option("a new index would store codes only", default=False)
    pool: str | None = option("a new index would store one vector for N: cluster:N or spatial:N", default=None, metavar="HOW")
    projection: Path | None = option("a new index would store vectors shortened by this file", default=None, metavar="NPZ")
    device: str = option("where a model that looks at pages would run: cpu, cuda, or auto", default="auto")
    renderer: Literal["pdfium", "poppler"] | None = option(
        "what draws the pages (default: that of the index; pdfium for a new one)", default=None
    )
    ocr: Literal["auto", "never", "always"] | None = option(
        "read words off the picture: where a page has none (auto), always or never (default: as the index was made; for a new "
        "one auto, never for models that look)",
        default=None,
    )
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.indexes.codecs import load_codec
        from colsearcher.indexes.manifest import DEFAULT_CODEC
        from colsearcher.indexes.page_index import PageIndex
        from colsearcher.indexes.page_pooling import PagePooling
        from colsearcher.indexes.segment import Storage
        from colsearcher.retrieval.corpus import find_sources
        from colsearcher.retrieval.embedder import DEFAULT_EMBEDDER, load_embedder
        from colsearcher.retrieval.indexing import made_with, missing_work, read_settings
        from colsearcher.retrieval.projection import embedder_for
        from colsearcher.retrieval.survey import ROW_BYTES, measure, survey

        sources = find_sources(self.paths)
        if not sources.files:
            raise UserError(f"There is no PDF and no image in {', '.join(map(str, self.paths))}; name a folder that has some.")
        pooling = PagePooling.parse(self.pool or "none")
        made = made_with(self.index)
        name = self.embedder or (made.embedder if made else DEFAULT_EMBEDDER)
        embedder = embedder_for(self.index, load_embedder(name, device=self.device), self.projection)
        settings = read_settings(embedder, made, renderer=self.renderer, ocr=self.ocr)
        storage = Storage(embedder.dim, load_codec(self.codec or DEFAULT_CODEC), not self.drop_originals)
        if made is not None and self.index is not None:
            storage, pooling = made.storage, made.pooling
            with PageIndex.open(self.index) as index:
                work = missing_work(index, sources)
        else:
            work = missing_work(None, sources)
        tell(f"looking through {len(work.to_read):,} files")
        found = survey(work.to_read, settings, skip=work.stored)
        tell("reading and embedding three pages")
        costs = measure(work.to_read, found, settings, embedder, pooling)
        seconds = costs.seconds(found.pages_text, found.pages_ocr) if costs else 0.0
        stored = storage.bytes_per_vector + ROW_BYTES
        disk = costs.vectors * stored * (found.pages_text + found.pages_ocr) if costs else 0.0
        place = (self.index or Path()).absolute()
        free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
        problems = [*work.problems, *found.problems]
        if self.json:
            show_json(
                {
                    "files": len(sources.files),
                    "files_unchanged": len(work.unchanged),
                    "files_ignored": sources.ignored,
                    "pages": found.pages,
                    "pages_ocr": found.pages_ocr,
                    "pages_blank": found.blank,
                    "seconds_expected": round(seconds, 3),
                    "bytes_expected": round(disk),
                    "bytes_free": free,
                    "measured_on": list(costs.pages) if costs else [],
                    "seconds_per_page": {
                        "read": costs and costs.read_text_s,
                        "ocr": costs and costs.read_ocr_s,
                        "embed": costs and costs.embed_s,
                    },
                    "models": models(embedder.name, embedder.device, settings.ocr),
                    "problems": [{"document": p.document, "page": p.page, "reason": p.reason} for p in problems],
                }
            )
            return 0
        show(
            f"files     {len(sources.files):,} to index, {len(work.unchanged):,} of them unchanged, {sources.ignored:,} ignored"
        )
        show(f"pages     {found.pages:,}: {found.pages_text:,} with text, {found.pages_ocr:,} by OCR, {found.blank:,} blank")
        if costs:
            measured = [("read", costs.read_text_s), ("OCR", costs.read_ocr_s), ("embed", costs.embed_s)]
            each = ", ".join(f"{name} {value:.2f} s" for name, value in measured if value is not None)
            show(f"measured  {each} a page, on {', '.join(costs.pages)}")
        show(f"time      about {duration(seconds)} on this machine")
        show(f"disk      about {size(disk)} ({size(free)} free)")
        for role, model in models(embedder.name, embedder.device, settings.ocr).items():
            show(f"{role:<10}{model}")
        for problem in problems:
            show(f"not read  {problem}")
        return 0


def models(embedder: str, device: str, ocr: str) -> dict[str, str]:
    """Role -> which model plays it and where it comes from."""
    from colsearcher.retrieval.embedder import EMBEDDERS
    from colsearcher.retrieval.minilm import WEIGHTS
    from colsearcher.retrieval.ocr import OcrEngine

    packaged = f"; {WEIGHTS.title}, from the installed package {WEIGHTS.package}" if embedder in EMBEDDERS else ""
    roles = {"embedder": f"{embedder} on {device}{packaged}"}
    if ocr != "never":
        roles["ocr"] = f"{OcrEngine.name}, from the installed package rapidocr"
    return roles
