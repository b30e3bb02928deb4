"""The numbers that the README states for 1,001 pages of real PDFs. Slow: most of it is OCR."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COLSEARCHER = str(Path(sys.executable).parent / "colsearcher")
DOCS = Path(__file__).resolve().parents[2] / "shared" / "data" / "docs"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DOCS.is_dir(), reason="the evaluation documents are not beside the project"),
]


def answer(*words):
    done = subprocess.run([COLSEARCHER, *map(str, words), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Indexed in two runs, the first one killed in the middle."""
    folder = tmp_path_factory.mktemp("docs") / "index"
    with (folder.parent / "killed.log").open("w") as log:
        first = subprocess.Popen([COLSEARCHER, "index", "add", str(DOCS), "--index", str(folder)], stdout=log, stderr=log)
        time.sleep(random.Random(time.time_ns()).uniform(40, 90))
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    before = answer("index", "info", "--index", folder)["pages"] if (folder / "catalog.sqlite").exists() else 0
    report = answer("index", "add", DOCS, "--index", folder)
    assert report["pages_added"] == 1001 - before and report["problems"] == []
    return folder


def test_every_page_once_and_nothing_to_do_the_second_time(index):
    info = answer("index", "info", "--index", index)
    assert (info["pages"], info["documents"], info["incomplete_documents"]) == (1001, 38, 0)
    # 235 pages have fewer than five words: 233 that OCR reads and 2 blank ones; 14 scans have only a stamp as text.
    assert info["ocr_reasons"] == {"no text": 233, "stamp": 14} and info["pages_blank"] == 2
    assert answer("index", "verify", "--index", index)["ok"]
    again = answer("index", "add", DOCS, "--index", index)
    assert (again["pages_added"], again["pages_unchanged"]) == (0, 1001)


def test_the_ranking_is_as_good_as_stated(index):
    scores = answer("eval", "retrieval", "--qa", DOCS / "qa.jsonl", "--index", index)
    ndcg = {name: metrics["ndcg@5"] for name, metrics in scores["rankings"].items()}
    assert scores["questions"] == 251
    assert ndcg["default"] >= 0.56 and ndcg["late interaction"] >= 0.51, ndcg
    assert ndcg["default"] > max(value for name, value in ndcg.items() if name != "default"), ndcg
