"""An index in a folder that its reader may not write, as a shared one is: never stale, whoever else is writing."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_pages import MANIFEST, document, page, query

from colsearcher.indexes.errors import IndexProblem
from colsearcher.indexes.page_index import PageIndex

NOBODY = 65534
WRITER = """
import sys
from pathlib import Path
from fake_pages import document, page
from colsearcher.indexes.page_index import PageIndex
with PageIndex.open(Path(sys.argv[1])) as index, index.writing():
    for name in sys.stdin:
        index.add([document(name.strip(), 1)], [page(name.strip(), 1)])
        print("added", flush=True)
"""


@pytest.fixture
def folder():
    """An index of one document in a folder that others can reach."""
    above = Path(tempfile.mkdtemp())
    above.chmod(0o755)
    with PageIndex.create(above / "index", MANIFEST) as index, index.writing():
        index.add([document("a.pdf", 1)], [page("a.pdf", 1)])
    yield above / "index"
    (above / "index").chmod(0o755)
    shutil.rmtree(above)


class Writer:
    """A process that holds the index open and adds the documents that it is told."""

    def __init__(self, folder):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
        command = [sys.executable, "-c", WRITER, folder]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def add(self, name):
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "added\n"

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def writer(folder):
    made = Writer(folder)
    yield made
    made.kill()


@contextmanager
def reader(folder):
    """Nobody may write in the folder, nor may who reads take what only the superuser may."""
    folder.chmod(0o555)
    superuser = os.getuid() == 0
    if superuser:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        assert not os.access(folder, os.W_OK)
        yield
    finally:
        if superuser:
            os.setresuid(0, 0, 0)
        folder.chmod(0o755)


def documents(index):
    return [hit.document for hit in index.search([query()], 9, ranking="late")[0].hits]


def test_it_is_read_and_left_as_it_is(folder):
    before = sorted(path.name for path in folder.iterdir())
    with reader(folder):
        with PageIndex.open(folder) as index:
            assert documents(index) == ["a.pdf"] and index.verify() == []
        with pytest.raises(IndexProblem, match="cannot be changed"), PageIndex.open(folder) as index, index.writing():
            pass
    assert sorted(path.name for path in folder.iterdir()) == before


def test_what_another_process_is_adding_is_seen(folder, writer):
    writer.add("b.pdf")
    with reader(folder), PageIndex.open(folder) as index:
        assert sorted(documents(index)) == ["a.pdf", "b.pdf"]
    with reader(folder), PageIndex.open(folder) as index:
        assert sorted(documents(index)) == ["a.pdf", "b.pdf"]


def test_what_a_killed_process_committed_is_seen(folder, writer):
    writer.add("b.pdf")
    writer.kill()
    with reader(folder), PageIndex.open(folder) as index:
        assert sorted(documents(index)) == ["a.pdf", "b.pdf"]


def test_changes_that_cannot_be_read_are_named_and_not_left_out(folder, writer):
    writer.add("b.pdf")
    writer.kill()
    (folder / "catalog.sqlite-shm").unlink()
    with reader(folder), pytest.raises(IndexProblem, match=r"changes in catalog\.sqlite-wal"):
        PageIndex.open(folder)
    with PageIndex.open(folder) as index:  # by somebody who may write
        index.info()
    with reader(folder), PageIndex.open(folder) as index:
        assert sorted(documents(index)) == ["a.pdf", "b.pdf"]
