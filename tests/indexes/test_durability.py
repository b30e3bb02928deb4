"""Kill it, fill its disk, flip its bits, starve it of memory: nothing that was committed is lost, and a fault is named."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_pages import MANIFEST, document, page, query

from colsearcher.indexes.codecs import CODECS
from colsearcher.indexes.errors import IndexProblem
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import PageEmbedding
from colsearcher.indexes.segment import Segment, Storage, encode_rows, write_segment

HERE = Path(__file__).parent
LIMIT = 320 << 20


@pytest.mark.slow
def test_fifty_kills_lose_nothing_that_was_committed(tmp_path):
    ran = subprocess.run(
        [sys.executable, HERE / "killed_writer.py", tmp_path / "index", "50"], capture_output=True, text=True, timeout=500
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["kills"] == 50
    assert report["documents"] > 0
    assert report["killed_in"]["add"] and report["killed_in"]["compact"], report


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not show what is resident of a mapping")
def test_a_segment_that_was_let_go_no_longer_counts_as_memory_and_reads_as_before(tmp_path):
    storage = Storage(64, CODECS["int8"], originals=True)
    vectors = np.random.default_rng(0).standard_normal((40_000, 64)).astype(np.float32)
    embedding = PageEmbedding(vectors, np.zeros((40_000, 4), np.float32), np.zeros(40_000, bool))
    written = write_segment(tmp_path, [encode_rows([embedding], storage)], storage)
    segment = Segment(tmp_path / written.file)
    before = segment.vectors(slice(0, 40_000)).copy()
    assert resident_kib(segment.path) > 5_000
    segment.let_go()
    assert resident_kib(segment.path) < 100
    np.testing.assert_array_equal(segment.vectors(slice(0, 40_000)), before)


def resident_kib(path):
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return sum(
        next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) for at in lines if at.endswith(path.name)
    )


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_loses_at_most_the_batch_that_did_not_fit(small_disk):
    stored = 0
    with PageIndex.create(small_disk / "index", MANIFEST) as index, index.writing():
        with pytest.raises(IndexProblem, match="make room"):
            for i in range(10_000):
                index.add([document(f"{i}.pdf", 2)], [page(f"{i}.pdf", n, rows=400) for n in (1, 2)])
                stored = i + 1
        assert stored > 10
        assert [d.document for d in index.documents()] == sorted(f"{i}.pdf" for i in range(stored))
    with PageIndex.open(small_disk / "index") as index:
        assert index.verify() == []
        assert len(index.search([query()], 5, ranking="late")[0].hits) == 5
        subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
        with index.writing():
            index.remove([f"{i}.pdf" for i in range(stored // 2)])
            index.compact()
        assert index.verify() == []


def test_verify_finds_a_flipped_bit_anywhere_in_a_segment(tmp_path):
    with PageIndex.create(tmp_path / "index", MANIFEST) as index, index.writing():
        index.add([document("a.pdf", 3)], [page("a.pdf", n) for n in (1, 2, 3)])
        path = next((tmp_path / "index" / "segments").iterdir())
        whole = path.read_bytes()
        assert index.verify() == []
        for at in np.random.default_rng(0).integers(0, len(whole), 40):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(at) % 8
            path.write_bytes(damaged)
            assert any("checksum" in fault and "a.pdf" in fault for fault in index.verify()), at
        path.write_bytes(whole)
        assert index.verify() == []


LIMITED = """
import json, resource, sys
from pathlib import Path
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
import numpy as np
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import QueryEmbedding
query = np.load(sys.argv[3])
q = QueryEmbedding(query, np.ones(len(query), np.float32), ("",) * len(query), np.zeros(len(query), bool), "")
with PageIndex.open(Path(sys.argv[1]), device="cpu") as index:
    found = index.search([q], 3, ranking="late", recall=float(sys.argv[4]))[0]
print(json.dumps({"hits": [[h.document, h.page] for h in found.hits], "engine": found.plan["engine"]}))
"""


@pytest.fixture(scope="module")
def large_index(tmp_path_factory):
    """An index of four times the limit, and 20 vectors of a page of it."""
    folder = tmp_path_factory.mktemp("large") / "index"
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1000, 256)).astype(np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    with PageIndex.create(folder, replace(MANIFEST, dim=256)) as index, index.writing():
        written, batch = 0, 0
        while written < 4 * LIMIT:
            name = f"{batch:03}.pdf"
            signs = rng.choice(np.array([-1, 1], np.float16), size=(40, 256))
            made = [PageEmbedding(vectors * sign, np.zeros((1000, 4)), np.zeros(1000, bool)) for sign in signs]
            index.add([document(name, 40)], [replace(page(name, n + 1), embedding=made[n]) for n in range(40)])
            written = sum(path.stat().st_size for path in (folder / "segments").iterdir())
            batch += 1
        return folder, index.embedding("007.pdf", 13).vectors[:20].astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("recall", ["1", "0.99"])
def test_an_index_four_times_larger_than_the_memory_allowed_is_searched(large_index, tmp_path, recall):
    """The process may hold 320 MB of its own, and, where control groups can be made, 320 MB with the page cache."""
    folder, wanted = large_index
    np.save(tmp_path / "query.npy", wanted)
    for path in (folder / "segments").iterdir():  # out of the page cache, so that reading it counts for who reads it
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, "-c", LIMITED, folder, str(LIMIT), tmp_path / "query.npy", recall]
    group = Path("/sys/fs/cgroup/memory/colsearcher-test")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT))
        enter = lambda: (group / "cgroup.procs").write_text(str(os.getpid()))  # noqa: E731
    except OSError:
        group, enter = None, None
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=enter)
        pressed = group is None or int((group / "memory.failcnt").read_text()) > 0
    finally:
        if group:
            group.rmdir()
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["hits"][0] == ["007.pdf", 13]
    assert report["engine"] == ("exact" if recall == "1" else "codes")
    assert pressed, "the limit was never felt"
