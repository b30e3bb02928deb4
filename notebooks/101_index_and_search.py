# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 101 · Index a folder and search it
#
# From PDFs to ranked pages in Python, and a look at why a page was found. Runs on the embedded models: no GPU, no hub.
#
# `jupytext --to ipynb notebooks/101_index_and_search.py` makes a notebook of this file.

# %%
import tempfile
from pathlib import Path

from colsearcher.indexes.page_index import PageIndex
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.embedder import load_embedder
from colsearcher.retrieval.indexing import add_documents, missing_work, open_or_create
from colsearcher.retrieval.reading import ReadSettings
from colsearcher.retrieval.sample.corpus import write_sample_corpus
from colsearcher.retrieval.searcher import Searcher

work = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A corpus
# The project draws a small one of its own. Any folder of PDFs and images will do.

# %%
sample = write_sample_corpus(work / "corpus")
sample.documents

# %% [markdown]
# ## Index it
# Pages are read in processes of their own; the letter is a scan and goes through OCR. Running this cell again costs a hash
# per file and nothing else.

# %%
settings, embedder = ReadSettings(), load_embedder()
with open_or_create(work / "index", embedder, settings) as index, index.writing():
    report = add_documents(index, embedder, missing_work(index, find_sources([work / "corpus"])), settings)
    print(f"{report.pages_added} pages, {report.pages_ocr} by OCR, {len(report.problems)} problems")

# %% [markdown]
# ## Search it
# A score is the sum of its named parts, and every hit has an address that the command line takes too.

# %%
question = "How deep may the buoy be moored?"
searcher = Searcher.open(work / "index")
(result,) = searcher.search([question], k=3)
for hit in result.hits:
    print(f"{hit.score:.3f}  {hit.address}  { ({name: round(value, 3) for name, value in hit.parts.items()}) }")

# %% [markdown]
# An SQL filter is applied before anything is scored.

# %%
(only_reports,) = searcher.search([question], k=3, filter="document LIKE '%report%'")
[str(hit.address) for hit in only_reports.hits]

# %% [markdown]
# ## Why this page?
# The heat map of the whole question over the page: colour where any of its words is matched, a frame at each word's best place.

# %%
best = result.hits[0].address
for place in searcher.evidence(question, best):
    print(f"{place.word:<12}{place.similarity:.2f}  {place.address}")

# %%
searcher.picture(best, question=question, side=900)

# %% [markdown]
# ## The index is a folder
# Vectors in segment files, everything else in SQLite; `verify` reads all of it back.

# %%
searcher.index.close()
with PageIndex.open(work / "index") as index:
    print({name: index.info()[name] for name in ("documents", "pages", "pages_ocr", "vectors", "vector_bytes")})
    assert index.verify() == []
