"""`colsearcher index add | rm | info | tune | verify | compact`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from colsearcher.agent.flags import argument, option
from colsearcher.agent.range import COUNT, POSITIVE, SHARE
from colsearcher.agent.terminal import ProgressLine, duration, show, show_json, size, tell
from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    from colsearcher.retrieval.indexing import IndexReport


@dataclass(frozen=True)
class Add:
    """Index PDFs, images and folders of them. Run it again to go on after a stop, or to bring the index up to date:
    unchanged files cost nothing, changed files replace their pages. Files that cannot be read are named, with the reason,
    and never stop the run."""

    paths: tuple[Path, ...] = argument("PDF files, images, or folders of them")
    index: Path = option("the index folder; made if it does not exist", metavar="DIR")
    embedder: str | None = option(
        "what turns pages into vectors (default: that of the index; minilm for a new one)", default=None
    )
    renderer: Literal["pdfium", "poppler"] | None = option(
        "what draws the pages (default: that of the index; pdfium for a new one)", default=None
    )
    ocr: Literal["auto", "never", "always"] | None = option(
        "read words off the picture: where a page has none (auto), always or never (default: as the index was made; for a new "
        "one auto, never for models that look)",
        default=None,
    )
    codec: Literal["fp16", "int8", "4bit", "2bit", "1bit"] | None = option(
        "how a new index stores vectors (default: 4bit)", default=None
    )
    drop_originals: bool = option("store codes only: smaller, and scores are then those of the codes", default=False)
    pool: str | None = option(
        "a new index stores one vector for N patches or words, those that point alike (cluster:N) or lie together "
        "(spatial:N); a text page is then scored as a whole, not by its best passage (default: none)",
        default=None,
        metavar="HOW",
    )
    projection: Path | None = option(
        "a new index stores shorter vectors, by this file of `index fit-projection`, and keeps a copy of it",
        default=None,
        metavar="NPZ",
    )
    ray: str | None = option(
        "read and embed on a Ray cluster: local starts one here, auto joins the one that runs here, or host:port",
        default=None,
        metavar="ADDRESS",
        bare="local",
    )
    shards: int | None = option(
        "write N indexes at once, in folders of --index, with a Ray actor each", default=None, metavar="N", within=COUNT
    )
    device: str = option("where a model that looks at pages runs: cpu, cuda, or auto", default="auto")
    page_seconds: float = option("give a page up after so long", default=60.0, within=POSITIVE)
    retry: bool = option("read pages again that could not be read before", default=False)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from functools import partial

        from colsearcher.agent.commands.index_on_ray import add_on_ray, require_place
        from colsearcher.agent.roles import tell_roles
        from colsearcher.indexes.page_pooling import PagePooling
        from colsearcher.indexes.shards import open_index
        from colsearcher.retrieval.corpus import find_sources
        from colsearcher.retrieval.embedder import DEFAULT_EMBEDDER, load_embedder
        from colsearcher.retrieval.indexing import (
            Progress,
            add_documents,
            made_with,
            missing_work,
            open_or_create,
            read_settings,
        )
        from colsearcher.retrieval.projection import embedder_for
        from colsearcher.retrieval.ray_cluster import check_address
        from colsearcher.retrieval.survey import OCR_UNITS, survey

        if self.ray is not None:
            check_address(self.ray)
        PagePooling.parse(self.pool or "none")  # a wrong word should not wait for the model to load
        sources = find_sources(self.paths)
        if not sources.files:
            raise UserError(f"There is no PDF and no image in {', '.join(map(str, self.paths))}; name a folder that has some.")
        place = require_place(self.index, self.shards)
        made = made_with(place)
        name = self.embedder or (made.embedder if made else DEFAULT_EMBEDDER)
        tell_roles(tell, embedder=name, ocr=self.ocr or (made.ocr if made else "auto, where the embedder reads words"))
        embedder = embedder_for(place, load_embedder(name, device=self.device), self.projection)
        settings = read_settings(embedder, made, renderer=self.renderer, ocr=self.ocr, page_seconds=self.page_seconds)
        opened = partial(
            open_or_create, settings=settings, codec=self.codec, drop_originals=self.drop_originals, pool=self.pool
        )
        if self.ray is not None or self.shards is not None:
            report = add_on_ray(
                self.index,
                opened,
                sources,
                embedder,
                settings,
                device=self.device,
                address=self.ray or "local",
                shards=self.shards,
                retry=self.retry,
            )
            with open_index(self.index) as written:
                return self._show(report, written.info())
        with opened(self.index, embedder) as index:
            with index.writing():
                tell(f"looking through {len(sources.files):,} files")
                work = missing_work(index, sources, retry=self.retry)
                found = survey(work.to_read, settings, skip=work.stored)
                if found.pages:
                    tell(f"{found.pages:,} pages to index, {found.pages_ocr:,} of them by OCR")
                    tell(f"embedder {embedder.name} on {embedder.device}")
                with ProgressLine("indexing", found.pages, found.pages + OCR_UNITS * found.pages_ocr) as line:

                    def on_progress(p: Progress) -> None:
                        line.update(p.pages_read, p.pages_read + OCR_UNITS * p.ocr_read, p.document)

                    report = add_documents(index, embedder, work, settings, on_progress=on_progress)
            info = index.info()
        return self._show(report, info)

    def _show(self, report: IndexReport, info: dict[str, object]) -> int:
        for name in report.documents_recovered:
            tell(f"  repaired: {name} is damaged; what could be read of it was")
        for problem in report.problems:
            tell(f"  not read: {problem}")
        if self.json:
            problems = [{"document": p.document, "page": p.page, "reason": p.reason} for p in report.problems]
            show_json({**asdict(report), "problems": problems, "index": info})
            return 0
        replaced = f"{report.documents_replaced:,} documents replaced, " if report.documents_replaced else ""
        show(
            f"{report.pages_added:,} pages added in {duration(report.seconds)} "
            f"({report.pages_ocr:,} by OCR), {report.pages_unchanged:,} unchanged, {replaced}{len(report.problems)} problems; "
            f"{self.index} holds {info['pages']:,} pages of {info['documents']:,} documents"
        )
        return 0


@dataclass(frozen=True)
class Remove:
    """Remove documents by id. Their space comes back with `colsearcher index compact`."""

    documents: tuple[str, ...] = argument("document ids, as `colsearcher index info` lists them")
    index: Path = option("the index folder", metavar="DIR")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.indexes.page_index import PageIndex

        with PageIndex.open(self.index) as index, index.writing():
            pages = index.remove(self.documents)
        if self.json:
            show_json({"documents_removed": len(set(self.documents)), "pages_removed": pages})
        else:
            show(f"removed {len(set(self.documents))} documents, {pages} pages")
        return 0


@dataclass(frozen=True)
class Info:
    """What the index holds and what made it."""

    index: Path = option("the index folder", metavar="DIR")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.indexes.shards import open_index

        with open_index(self.index) as index:
            info, documents = index.info(), index.documents()
        if self.json:
            listed = [
                {"document": d.document, "pages": d.pages, "path": d.path, "metadata": dict(d.metadata)} for d in documents
            ]
            show_json({**info, "document_list": listed})
            return 0
        for name, value in info.items():
            if name in ("manifest", "tuning", "shards"):
                continue
            if name == "problems":
                value = len(value)  # type: ignore[arg-type]
            shown = size(value) if name.endswith("bytes") else f"{value:,}" if isinstance(value, int) else value  # type: ignore[arg-type]
            show(f"{name:<22}{shown}")
        for name, value in info["manifest"].items():  # type: ignore[attr-defined]
            show(f"{name:<22}{value or 'none'}")
        for shard, pages in info.get("shards", {}).items():  # type: ignore[attr-defined]
            show(f"{shard:<22}{pages:,} pages")
        for line in _tuning_lines(info["tuning"]) if "shards" not in info else ():  # type: ignore[arg-type]
            show(line)
        for document in documents:
            show(f"  {document.document}  {document.pages} pages")
        for problem in info["problems"]:  # type: ignore[attr-defined]
            show(f"  not read: {problem['document']} page {problem['page']}: {problem['reason']}")
        return 0


@dataclass(frozen=True)
class Tune:
    """Measure how much of the exact top ten each engine finds on this index, and keep the cheapest setting that finds
    enough. An index of 2,000 pages or more gets pooled candidates on the way. Run it again after adding many pages."""

    index: Path = option("the index folder", metavar="DIR")
    recall: float = option("the share of the exact top ten that has to be found", default=0.99, within=SHARE)
    queries: Path | None = option("a text file of questions, one a line; made of the pages' words without", default=None)
    sample: int = option("how many questions to use", default=64, metavar="N", within=COUNT)
    device: str = option("cpu, cuda, or auto", default="auto")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.indexes.page_index import PageIndex
        from colsearcher.retrieval.embedder import load_embedder
        from colsearcher.retrieval.projection import embedder_of
        from colsearcher.retrieval.tuning_questions import read_questions, sample_questions

        with PageIndex.open(self.index, device=self.device) as index, index.writing():
            index.require_pages()
            questions = read_questions(self.queries) if self.queries else sample_questions(index, self.sample)
            embedder = embedder_of(index, load_embedder(index.manifest.embedder, device=self.device))
            embedded = embedder.embed_queries(questions[: self.sample]) if questions else []
            tuning = index.tune(embedded, recall=self.recall, tell=tell)
        values = json.loads(tuning.to_json())
        if self.json:
            show_json(values)
            return 0
        for line in _tuning_lines(values):
            show(line)
        return 0


def _tuning_lines(tuning: dict[str, Any] | None) -> list[str]:
    if tuning is None:
        return ["tuned                 never; `colsearcher index tune` measures recall and speed"]
    lines = [f"tuned                 {tuning['created']}: {tuning['queries']} queries on {tuning['page_count']:,} pages"]
    if tuning["depth"]:
        lines.append(f"  codes               best {tuning['depth']} scored again: recall@10 {tuning['codes_recall']:.4f}")
    if tuning["pooled"]:
        pooled = tuning["pooled"]
        lines.append(
            f"  candidates          {pooled['pages']} pages: recall@10 {pooled['recall']:.4f}, {pooled['ms']:.1f} ms a query"
        )
    lines += [f"  {bits}-bit scan".ljust(22) + f"{ns:.2f} ns a vector" for bits, ns in tuning["scan_ns"].items()]
    return lines


@dataclass(frozen=True)
class Verify:
    """Read everything back: checksums of the vectors and of the projection, SQLite's own check of the catalog, and whether
    its pages, words and boxes fit each other. Exit 1 if there is a fault."""

    index: Path = option("the index folder", metavar="DIR")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.indexes.shards import open_index

        with open_index(self.index) as index:
            faults, pages = index.verify(), len(index.pages())
        if self.json:
            show_json({"ok": not faults, "faults": faults, "pages": pages})
        else:
            show(
                "\n".join(faults)
                if faults
                else f"the vectors of {pages:,} pages are as they were written, byte for byte; the catalog is whole"
            )
        return 1 if faults else 0


@dataclass(frozen=True)
class Compact:
    """Give back the space of removed and replaced pages. Searches may go on meanwhile."""

    index: Path = option("the index folder", metavar="DIR")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.indexes.page_index import PageIndex

        with PageIndex.open(self.index) as index, index.writing():
            report = index.compact()
        if self.json:
            show_json(report)
        else:
            show(
                f"{report['segments_before']} segments, {size(report['bytes_before'])} -> "
                f"{report['segments_after']} segments, {size(report['bytes_after'])}"
            )
        return 0
