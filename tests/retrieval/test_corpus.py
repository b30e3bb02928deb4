import hashlib
import os
import sys
from pathlib import Path

import pytest

from colsearcher.indexes.errors import FileProblem, UserError
from colsearcher.retrieval.corpus import ReadProblem, content_hash, find_sources


def touch(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())


def test_a_folder_is_walked_in_order_with_ids_relative_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "b.PDF", "a/z.pdf", "a/scan.TIFF", "a.pdf", "notes.txt", ".hidden.pdf", ".git/x.pdf", "a/b/c.webp")
    found = find_sources([tmp_path])
    assert [source.document for source in found] == ["a.pdf", "a/b/c.webp", "a/scan.TIFF", "a/z.pdf", "b.PDF"]
    assert [source.kind for source in found] == ["pdf", "image", "image", "pdf", "pdf"]
    assert all(source.path.is_absolute() and source.path.is_file() for source in found)
    assert found.ignored == 1
    assert found.problems == ()


def test_a_named_file_keeps_its_own_name_and_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "deep/er/a.pdf")
    file = tmp_path / "deep/er/a.pdf"
    assert [source.document for source in find_sources([file, file, tmp_path / "deep/er"])] == ["a.pdf"]


def test_two_files_with_one_id_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.pdf", "y/a.pdf")
    with pytest.raises(UserError, match=r"would both be called «a\.pdf»; add the folder above"):
        find_sources([tmp_path / "x", tmp_path / "y"])


def test_what_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.docx")
    with pytest.raises(UserError, match="does not exist"):
        find_sources([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="neither a PDF nor an image"):
        find_sources([tmp_path / "a.docx"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_get_an_id_that_can_be_printed(tmp_path: Path) -> None:
    touch(tmp_path, "line\nbreak #p=3.pdf")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.pdf")).write_bytes(b"x")
    documents = [source.document for source in find_sources([tmp_path])]
    assert documents == ["caf\\xe9.pdf", "line\nbreak #p=3.pdf"]
    "".join(documents).encode("utf-8")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.pdf", "locked/b.pdf")
    (tmp_path / "locked").chmod(0)
    found = find_sources([tmp_path])
    (tmp_path / "locked").chmod(0o700)
    assert [source.document for source in found] == ["a.pdf"]
    assert "permission denied" in found.problems[0].reason


def test_content_hash_is_sha256(tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(b"x" * 3_000_000)
    assert content_hash(file) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    with pytest.raises(FileProblem, match="no such file"):
        content_hash(tmp_path / "b.pdf")


def test_a_problem_reads_as_a_line() -> None:
    assert str(ReadProblem("a.pdf", None, "It is empty.")) == "a.pdf: It is empty."
    assert str(ReadProblem("a.pdf", 3, "It is broken.")) == "a.pdf page 3: It is broken."
