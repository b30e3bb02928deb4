from command_line import answer, complaint, write_corpus

from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.minilm import MiniLMEmbedder
from colsearcher.training import embed_bench


class Clocked(MiniLMEmbedder):
    """An embedder that needs as many seconds for a page as it is told, by a clock of its own."""

    now = 0.0

    def __init__(self, seconds):
        super().__init__()
        self.seconds = iter(seconds)
        self.last = 0.0

    def embed_pages(self, pages):
        self.last = next(self.seconds, self.last)
        Clocked.now += self.last * len(pages)
        return super().embed_pages(pages)


def test_what_is_compared_is_timed_before_and_after(tmp_path, monkeypatch):
    # At first, in batches, four pages one by one, `index add`, in batches again.
    embedder = Clocked([9, 1, 2, 2, 2, 2, 4, 3])
    monkeypatch.setattr(embed_bench.time, "perf_counter", lambda: Clocked.now)
    times = embed_bench.time_embedding(embedder, find_sources([write_corpus(tmp_path)]), limit=None)
    assert (times.pages, times.added) == (4, 4)
    assert times.batched == 1 / ((1 + 3) / 2)
    assert (times.single, times.index_add) == (1 / 2, 1 / 4)


def test_bench_embed(tmp_path):
    said = answer("bench", "embed", write_corpus(tmp_path), "--pages", 3)
    assert (said["pages"], said["pages_added"]) == (3, 4)
    assert list(said["rows"]) == ["batched", "one page at a time", "index add"]
    assert said["rows"]["batched"]["ratio"] == 1 and all(row["pages_per_s"] > 0 for row in said["rows"].values())
    assert said["bytes_per_page"] > 0


def test_nothing_to_embed_is_said(tmp_path):
    (tmp_path / "notes.txt").write_text("no page")
    assert "no PDF and no image" in complaint("bench", "embed", tmp_path)
