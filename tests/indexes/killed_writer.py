"""Run by test_durability: forks writers of one index, kills each at a random moment, and checks what it left behind.

Usage: killed_writer.py FOLDER KILLS. Prints one line of counts; any fault is an exception.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
import zlib
from pathlib import Path

import numpy as np

from colsearcher.indexes.codecs import CODECS
from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import DocumentRecord, PageEmbedding, PageRecord, QueryEmbedding

DIM = 32
MANIFEST = Manifest("random", "r" * 64, DIM, 0, "pdfium", "auto", "none", "2026-01-01T00:00:00+00:00", codec="2bit")


def vectors(document, page):
    rng = np.random.default_rng([zlib.crc32(document.encode()), page])
    made = rng.normal(size=(int(rng.integers(3, 30)), DIM))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)


def page_record(document, page):
    made = vectors(document, page)
    embedding = PageEmbedding(made, np.full((len(made), 4), 0.5), np.zeros(len(made), bool))
    return PageRecord(document, page, embedding, f"words of {document}", np.full((3, 4), 0.5), (600, 800), "text")


def write(folder, journal, seed):
    """Change the index until killed; every change is in the journal before it begins and after it is committed."""
    rng = random.Random(seed)

    def note(state, change, document, pages=0):
        os.write(journal, (json.dumps([state, change, document, pages]) + "\n").encode())

    with PageIndex.open(folder) as index, index.writing():
        names = [record.document for record in index.documents()]
        for count in range(10_000):
            change = rng.choices(["add", "remove", "compact"], [6, 2, 1])[0]
            if change == "remove" and names:
                name = names.pop(rng.randrange(len(names)))
                note("begin", "remove", name)
                index.remove([name])
                note("done", "remove", name)
            elif change == "compact":
                note("begin", "compact", "")
                index.compact()
                note("done", "compact", "")
            else:
                name, pages = f"doc{seed:04}-{count}.pdf", rng.randint(1, 6)
                note("begin", "add", name, pages)
                record = DocumentRecord(name, f"/{name}", "0" * 64, pages)
                index.add([record], [page_record(name, number + 1) for number in range(pages)])
                note("done", "add", name, pages)
                names.append(name)


def expected(before, journal):
    """Documents with their pages after the journal, and the change that may or may not have been committed."""
    documents, open_change = dict(before), None
    for line in journal.read_text().splitlines():
        state, change, name, pages = json.loads(line)
        open_change = [change, name, pages] if state == "begin" else None
        if state == "done" and change == "add":
            documents[name] = pages
        elif state == "done" and change == "remove":
            del documents[name]
    return documents, open_change


def check(folder, documents, open_change):
    """Compare the index with what was committed. Returns what it holds."""
    with PageIndex.open(folder) as index:
        assert index.verify() == []
        held = {record.document: record.pages for record in index.documents()}
        allowed = [documents]
        if open_change and open_change[0] == "add":
            allowed.append({**documents, open_change[1]: open_change[2]})
        elif open_change and open_change[0] == "remove":
            allowed.append({name: pages for name, pages in documents.items() if name != open_change[1]})
        assert held in allowed, f"{open_change}: {set(held) ^ set(documents)}"
        assert index.pages() == sorted((name, page + 1) for name, pages in held.items() for page in range(pages))
        for name, page in index.pages():
            assert index.embedding(name, page).vectors.tobytes() == vectors(name, page).tobytes()
        for name, page in random.sample(index.pages(), min(10, len(index.pages()))):
            own = vectors(name, page).astype(np.float32)
            query = QueryEmbedding(own, np.ones(len(own), np.float32), ("",) * len(own), np.zeros(len(own), bool), "")
            hit = index.search([query], 1, ranking="late")[0].hits[0]
            assert (hit.document, hit.page) == (name, page)
    return held


def in_child(work, *arguments):
    """Run in a fork, so that this process never starts a thread. Returns what the work gave, over a pipe."""
    receive, send = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(send, json.dumps(work(*arguments)).encode())
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(send)
    with os.fdopen(receive) as stream:
        result = stream.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return json.loads(result)


def main(folder, kills):
    PageIndex.create(folder, MANIFEST).close()
    CODECS["2bit"].encode(np.ones((1, DIM)))  # compiled here once, not in every writer
    random.seed(0)
    held, killed_in = {}, {"add": 0, "remove": 0, "compact": 0, "between": 0}
    for seed in range(kills):
        journal = folder.parent / "journal"
        handle = os.open(journal, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        if not (child := os.fork()):
            try:
                write(folder, handle, seed)
            finally:
                traceback.print_exc()
                os._exit(1)
        time.sleep(random.uniform(0.0, 0.25))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the writer died of itself"
        os.close(handle)
        documents, open_change = expected(held, journal)
        killed_in[open_change[0] if open_change else "between"] += 1
        held = in_child(check, folder, documents, open_change)
    print(json.dumps({"kills": kills, "killed_in": killed_in, "documents": len(held)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
