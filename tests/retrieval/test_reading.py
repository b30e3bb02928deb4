import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import endless_pdf, locked_pdf, picture, text_pdf

from colsearcher.indexes.errors import MissingExtra, UserError
from colsearcher.retrieval import reading, workers
from colsearcher.retrieval.corpus import Source, find_sources
from colsearcher.retrieval.page import Page
from colsearcher.retrieval.reading import (
    AHEAD,
    CHUNK,
    DocumentInfo,
    ReadProblem,
    ReadRecord,
    ReadSettings,
    read_documents,
)

FEW_SECONDS = ReadSettings(workers=1, page_seconds=2.0, ocr="never")


def numbered(path: Path, pages: int) -> Path:
    return text_pdf(path, [f"this is page number {number}" for number in range(1, pages + 1)])


def corpus(folder: Path) -> tuple[Source, ...]:
    """40 pages, 1 page, a locked file, 3 pages and a picture."""
    numbered(folder / "a.pdf", 40)
    numbered(folder / "b.pdf", 1)
    locked_pdf(folder / "c.pdf")
    numbered(folder / "d.pdf", 3)
    picture(["hello"]).save(folder / "e.png")
    return find_sources([folder]).files


def spot(record: ReadRecord) -> tuple[str, str, object]:
    """What a record is about."""
    match record:
        case DocumentInfo():
            return "info", record.document, record.pages
        case Page():
            return "page", record.document, record.number
        case ReadProblem():
            return "problem", record.document, record.page


def readers() -> list[int]:
    return [child.pid or 0 for child in multiprocessing.active_children() if child.name == "colsearcher-reader"]


def test_every_page_comes_once_and_in_order_however_many_read(tmp_path: Path) -> None:
    sources = corpus(tmp_path)
    alone = list(read_documents(sources, ReadSettings(workers=1, ocr="never")))
    assert [spot(record) for record in alone] == [
        ("info", "a.pdf", 40), *(("page", "a.pdf", number) for number in range(1, 41)),
        ("info", "b.pdf", 1), ("page", "b.pdf", 1),
        ("problem", "c.pdf", None),
        ("info", "d.pdf", 3), *(("page", "d.pdf", number) for number in range(1, 4)),
        ("info", "e.png", 1), ("page", "e.png", 1),
    ]  # fmt: skip
    assert [r.text for r in alone if isinstance(r, Page)][39] == "this is page number 40"
    assert next(r.reason for r in alone if isinstance(r, ReadProblem)).startswith("The PDF is encrypted")
    assert list(read_documents(sources, ReadSettings(workers=3, ocr="never"))) == alone
    assert readers() == []


def test_pages_that_are_done_are_skipped(tmp_path: Path) -> None:
    sources = corpus(tmp_path)
    skip = {"a.pdf": set(range(1, 39)), "b.pdf": {1}, "e.png": {1}}
    read = [spot(r) for r in read_documents(sources, ReadSettings(workers=1, ocr="never"), skip=skip)]
    assert [entry for entry in read if entry[0] == "page"] == [
        ("page", "a.pdf", 39), ("page", "a.pdf", 40), ("page", "d.pdf", 1), ("page", "d.pdf", 2), ("page", "d.pdf", 3),
    ]  # fmt: skip
    assert ("info", "b.pdf", 1) in read


def test_one_large_document_is_shared_out(tmp_path: Path) -> None:
    source = find_sources([numbered(tmp_path / "a.pdf", 60)]).files
    at_once = max(len(readers()) for _ in read_documents(source, ReadSettings(workers=2, ocr="never")))
    assert at_once == 2


def test_one_process_reads_until_it_is_found_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_sources([numbered(tmp_path / "a.pdf", 60)]).files
    for patience, most in ((60.0, 1), (0.001, 2)):
        monkeypatch.setattr(reading, "PATIENCE", patience)
        monkeypatch.setattr(reading, "_cores", lambda: 2)
        assert max(len(readers()) for _ in read_documents(source, ReadSettings(ocr="never"))) == most


def test_a_page_without_end_is_given_up_and_the_next_one_read(tmp_path: Path) -> None:
    source = find_sources([endless_pdf(tmp_path / "a.pdf")]).files
    begin = time.monotonic()
    info, first, second, third = read_documents(source, FEW_SECONDS)
    assert time.monotonic() - begin < 20
    assert [spot(r) for r in (info, first, third)] == [("info", "a.pdf", 3), ("page", "a.pdf", 1), ("page", "a.pdf", 3)]
    assert second == ReadProblem("a.pdf", 2, "It took longer than 2 seconds and was given up.")
    assert readers() == []


def kill_reader() -> None:
    """Kill the one reader in the middle of the second page."""
    deadline = time.monotonic() + 20
    while not readers() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    (reader,) = readers()
    os.kill(reader, signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_a_page_whose_reader_is_killed_gets_a_second_try(tmp_path: Path) -> None:
    source = find_sources([endless_pdf(tmp_path / "a.pdf", levels=5)]).files
    reading = read_documents(source, ReadSettings(workers=1, ocr="never"))
    assert [spot(next(reading))[0] for _ in range(2)] == ["info", "page"]
    killer = threading.Thread(target=kill_reader)
    killer.start()
    assert [spot(record) for record in reading] == [("page", "a.pdf", 2), ("page", "a.pdf", 3)]
    killer.join()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_a_page_whose_reader_is_killed_twice_is_reported_and_the_next_one_read(tmp_path: Path) -> None:
    source = find_sources([endless_pdf(tmp_path / "a.pdf")]).files
    reading = read_documents(source, ReadSettings(workers=1, ocr="never"))
    assert [spot(next(reading))[0] for _ in range(2)] == ["info", "page"]
    killers = threading.Thread(target=lambda: (kill_reader(), time.sleep(0.5), kill_reader()))
    killers.start()
    problem, third = reading
    killers.join()
    assert problem == ReadProblem("a.pdf", 2, "The reading process was killed, which systems do when memory runs out.")
    assert spot(third) == ("page", "a.pdf", 3)


def test_a_reader_that_has_used_ocr_enough_makes_place_for_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "OCR_PAGES", 1)
    for name in ("a.png", "b.png"):
        picture(["hello there"]).save(tmp_path / name)
    seen = set()
    for record in read_documents(find_sources([tmp_path]).files, ReadSettings(workers=1)):
        seen.update(readers())
        if isinstance(record, Page):
            assert record.text == "hello there"
    assert len(seen) >= 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process takes")
def test_a_page_that_takes_all_memory_is_reported(tmp_path: Path) -> None:
    source = find_sources([endless_pdf(tmp_path / "a.pdf")]).files
    settings = ReadSettings(workers=1, ocr="never", worker_bytes=400 << 20)
    _, _, problem, third = read_documents(source, settings)
    assert isinstance(problem, ReadProblem)
    assert problem.reason.startswith("The reading process crashed, or needed more than 400 MiB (")
    assert spot(third) == ("page", "a.pdf", 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_a_file_that_never_opens_is_given_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pdf")
    numbered(tmp_path / "b.pdf", 1)
    read = list(read_documents(find_sources([tmp_path]).files, FEW_SECONDS))
    assert [spot(r) for r in read] == [("problem", "a.pdf", None), ("info", "b.pdf", 1), ("page", "b.pdf", 1)]


def test_a_slow_consumer_holds_the_readers_back(tmp_path: Path) -> None:
    first = endless_pdf(tmp_path / "a.pdf")
    second = numbered(tmp_path / "b.pdf", 300)
    settings = ReadSettings(workers=2, page_seconds=4.0, ocr="never")
    reading = read_documents(find_sources([first, second]).files, settings)
    held: list[int] = []
    for record in reading:
        state = reading.gi_frame.f_locals["self"]  # type: ignore[attr-defined]
        held.append(sum(len(slot.records) for slot in state._slots))
        if spot(record) == ("page", "b.pdf", 300):
            break
    assert CHUNK < max(held) <= AHEAD * 2 * CHUNK


def test_no_time_is_counted_while_the_consumer_is_away(tmp_path: Path) -> None:
    source = find_sources([numbered(tmp_path / "a.pdf", 30)]).files
    reading = read_documents(source, ReadSettings(workers=1, page_seconds=1.0, ocr="never"))
    next(reading)
    time.sleep(1.6)
    assert [spot(record)[0] for record in reading] == ["page"] * 30


@pytest.mark.parametrize("how", ["close", "exception"])
def test_no_reader_outlives_the_iterator(tmp_path: Path, how: str) -> None:
    source = find_sources([endless_pdf(tmp_path / "a.pdf")]).files

    def use(reading: Iterator[ReadRecord]) -> None:
        for record in reading:
            if isinstance(record, Page):
                raise RuntimeError("the consumer fails")

    reading = read_documents(source, ReadSettings(workers=1, ocr="never"))
    if how == "close":
        next(reading)
        assert len(readers()) == 1
        reading.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(RuntimeError):
            use(reading)
        del reading
    assert readers() == []


SCRIPT = """
import sys
from pathlib import Path
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.reading import ReadSettings, read_documents

def main():
    for record in read_documents(find_sources([Path(sys.argv[1])]).files, ReadSettings(workers=1, ocr="never")):
        print(type(record).__name__, flush=True)

"""


def running(parent: int) -> list[int]:
    """The reading processes of a process, by the system's own account."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            facts = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if facts["PPid"] == str(parent) and b"spawn_main" in command:
            found.append(int(status.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_ctrl_c_ends_everything_without_a_word_from_the_readers(tmp_path: Path) -> None:
    (tmp_path / "read.py").write_text(SCRIPT + 'if __name__ == "__main__":\n    main()\n')
    command = [sys.executable, str(tmp_path / "read.py"), str(endless_pdf(tmp_path / "a.pdf"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "DocumentInfo\n"
        assert script.stdout.readline() == "Page\n"
        (reader,) = running(script.pid)
        os.killpg(script.pid, signal.SIGINT)
        _, errors = script.communicate(timeout=20)
    assert errors.count("Traceback") == 1
    assert errors.strip().endswith("KeyboardInterrupt")
    assert not Path(f"/proc/{reader}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_readers_end_when_their_owner_is_killed(tmp_path: Path) -> None:
    (tmp_path / "read.py").write_text(SCRIPT + 'if __name__ == "__main__":\n    main()\n')
    command = [sys.executable, str(tmp_path / "read.py"), str(endless_pdf(tmp_path / "a.pdf"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "DocumentInfo\n"
        assert script.stdout.readline() == "Page\n"
        time.sleep(0.3)
        (reader,) = running(script.pid)
        script.kill()
    deadline = time.monotonic() + 10
    while is_running(reader):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Not gone, and not a zombie that nobody fetches."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "read.py").write_text(SCRIPT + "main()\n")
    path = numbered(tmp_path / "a.pdf", 1)
    script = subprocess.run([sys.executable, str(tmp_path / "read.py"), str(path)], capture_output=True, text=True, timeout=60)
    assert script.returncode == 1
    assert "A reading process could not start (exit code 1); its output says why." in script.stderr


def test_readers_start_without_the_heavy_libraries() -> None:
    code = "import sys, colsearcher.retrieval.reading; print([m for m in sys.modules if '.' not in m])"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("torch", "transformers", "rapidocr", "cv2", "numpy", "openvino"):
        assert f"'{heavy}'" not in modules
    code = "import sys, colsearcher.retrieval.workers; print('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no renderer «mupdf»"):
        ReadSettings(renderer="mupdf")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no OCR mode «maybe»"):
        ReadSettings(ocr="maybe")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="page_seconds is 0"):
        ReadSettings(page_seconds=0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match="pdftoppm"):
        next(read_documents([], ReadSettings(renderer="poppler")))
