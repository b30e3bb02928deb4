"""Fewer and shorter vectors as a user types them, by subprocess, on the sample corpus."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import answer, call
from documents import text_pdf
from PIL import Image

TOPICS = {
    "ferry": [
        "The ferry to Lindholm leaves at nine in the morning.",
        "Tickets cost twelve crowns for adults and six for children.",
    ],
    "garden": ["Tulips are planted in October, ten centimetres deep.", "Roses need pruning in March, before the buds open."],
    "bread": ["Rye bread is baked for two hours at a low heat.", "The dough of wheat rises overnight in a cool place."],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    filler = "\nNothing else is said about it here, and there is no more to be known of the matter at all."
    for name, pages in TOPICS.items():
        text_pdf(folder / f"{name}.pdf", ["\n".join(page.split(", ")) + filler for page in pages])
    return folder


@pytest.fixture(scope="module")
def qa(tmp_path_factory):
    path = tmp_path_factory.mktemp("qa") / "QA.jsonl"
    asked = [
        ("ferry", 2, "What do tickets cost?"),
        ("garden", 2, "When are roses pruned?"),
        ("bread", 1, "How long is rye baked?"),
    ]
    path.write_text(
        "".join(
            json.dumps({"id": d, "doc": f"{d}.pdf", "question": q, "answers": ["a"], "evidence_pages": [n]}) + "\n"
            for d, n, q in asked
        )
    )
    return path


@pytest.fixture(scope="module")
def plain(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "index"
    call("index", "add", corpus, "--index", folder, "--ocr", "never")
    return folder


@pytest.fixture(scope="module")
def pooled(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pooled") / "index"
    options = ["--pool", "cluster:3", "--codec", "2bit", "--drop-originals", "--ocr", "never"]
    report = answer("index", "add", corpus, "--index", folder, *options)
    assert report["pages_added"] == 6
    return folder


@pytest.fixture(scope="module")
def projection(plain, tmp_path_factory):
    file = tmp_path_factory.mktemp("projection") / "projection.npz"
    said = answer("index", "fit-projection", "--index", plain, "--dim", 64, "-o", file)
    assert (said["from_dim"], said["dim"], said["rows"]) == (384, 64, [])
    assert 0.5 < said["kept"] < 1 and said["vectors"] == answer("index", "info", "--index", plain)["vectors"]
    return file


def test_a_pooled_index_is_smaller_and_still_finds_and_shows_its_pages(plain, pooled, corpus, tmp_path):
    whole, small = (answer("index", "info", "--index", folder) for folder in (plain, pooled))
    assert small["vectors"] < 0.4 * whole["vectors"] and small["place_bytes"] < 600 * small["pages"]
    assert (small["manifest"]["pool"], small["manifest"]["block_rows"]) == ("cluster:3", "0")
    found = answer("search", "When should I cut the roses?", "--index", pooled, "-k", 2)
    assert found["hits"][0]["address"] == "garden.pdf#p=2" and "Roses" in found["hits"][0]["text"]
    call("look", "garden.pdf#p=2", "--index", pooled, "-o", tmp_path / "plain.png")
    call("look", "garden.pdf#p=2", "--query", "pruning roses", "--index", pooled, "-o", tmp_path / "heat.png")
    before, after = (np.asarray(Image.open(tmp_path / f"{name}.png"), dtype=int) for name in ("plain", "heat"))
    heat = np.abs(after - before).sum(2)
    y = np.argwhere(heat > 0.5 * heat.max())[:, 0] / len(heat)
    assert y.max() < 0.3, "the first lines are about roses"
    again = answer("index", "add", corpus, "--index", pooled, "--ocr", "never")
    assert (again["pages_added"], again["pages_unchanged"]) == (0, 6)
    assert answer("index", "verify", "--index", pooled)["ok"]


@pytest.mark.slow
def test_a_projected_index_stands_alone(corpus, projection, tmp_path):
    file = shutil.copy(projection, tmp_path / "mine.npz")
    call("index", "add", corpus, "--index", tmp_path / "i", "--projection", file, "--pool", "spatial:2", "--ocr", "never")
    Path(file).unlink()
    info = answer("index", "info", "--index", tmp_path / "i")
    assert (info["manifest"]["dim"], info["manifest"]["pool"]) == ("64", "spatial:2") and info["manifest"]["projection"]
    found = answer("search", "When should I cut the roses?", "--index", tmp_path / "i", "-k", 1)
    assert found["hits"][0]["address"] == "garden.pdf#p=2"
    text_pdf(corpus / "late.pdf", ["The museum is closed on Mondays."])
    try:
        assert answer("index", "add", corpus, "--index", tmp_path / "i", "--ocr", "never")["pages_added"] == 1
    finally:
        (corpus / "late.pdf").unlink()
    assert "depth" in answer("index", "tune", "--index", tmp_path / "i", "--sample", 4)
    (tmp_path / "i" / "projection.npz").write_bytes(b"")
    assert "is not the file of a projection" in call("search", "roses", "--index", tmp_path / "i", code=2).stderr


@pytest.mark.slow
def test_their_costs_are_measured_on_copies(plain, qa, tmp_path):
    rows = answer("bench", "pooling", "--index", plain, "--qa", qa)["rows"]
    assert [row["name"] for row in rows] == [
        "none", "none, whole pages", "cluster:2", "cluster:3", "spatial:3", "cluster:6"
    ]  # fmt: skip
    assert set(rows[0]) == {"name", "vectors_per_page", "bytes_per_page", "ndcg@5", "recall@1", "recall@5", "late_ndcg@5"}
    assert rows[0]["ndcg@5"] == 1.0 and rows[-1]["vectors_per_page"] < rows[0]["vectors_per_page"] / 4
    said = call("index", "fit-projection", "--index", plain, "--dim", 96, "-o", tmp_path / "p.npz", "--qa", qa).stdout
    assert "384 -> 96 dimensions keep 0." in said and "384 dimensions" in said and "96 dimensions" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["index", "add", "{corpus}", "--index", "{tmp}/i", "--pool", "tiles"], "«tiles» is no way of pooling"),
        (["index", "add", "{corpus}", "--index", "{pooled}", "--pool", "cluster:2", "--ocr", "never"],
         "made with --pool cluster:3, not cluster:2"),
        (["index", "add", "{corpus}", "--index", "{plain}", "--projection", "{projection}"], "with no projection, not with"),
        (["index", "add", "{corpus}", "--index", "{tmp}/i", "--projection", "{qa}"], "is not the file of a projection"),
        (["index", "add", "{corpus}", "--index", "{tmp}/i", "--projection", "{other}"], "for embedder other, not for minilm"),
        (["index", "fit-projection", "--index", "{plain}", "--dim", "384", "-o", "{tmp}/p"], "give 1 to 383"),
        (["bench", "pooling", "--index", "{pooled}", "--qa", "{qa}"], "is pooled already (cluster:3)"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_sentence_and_exit_2(words, sentence, corpus, plain, pooled, projection, qa, tmp_path):
    other = tmp_path / "other.npz"
    with np.load(projection) as file:
        np.savez(other, **{**file, "embedder": "other"})
    places = {"tmp": tmp_path, "corpus": corpus, "plain": plain, "pooled": pooled, "projection": projection, "qa": qa}
    said = call(*(word.format(**places, other=other) for word in words), code=2)
    lines = [line for line in said.stderr.splitlines() if line.startswith("colsearcher: ")]
    assert said.stdout == "" and len(lines) == 1 and sentence in lines[0] and lines[0].endswith(".")
    assert not (tmp_path / "i" / "catalog.sqlite").exists()
