import doctest
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertModel

from colsearcher.indexes.errors import ModelProblem, UserError
from colsearcher.retrieval import minilm
from colsearcher.retrieval.bert import BertEncoder
from colsearcher.retrieval.embedder import load_embedder
from colsearcher.retrieval.minilm import WEIGHTS, MiniLMEmbedder, window_spans
from colsearcher.retrieval.page import Page, Word


@pytest.fixture(scope="module")
def embedder():
    return MiniLMEmbedder()


def page(text, number=1):
    words = [Word(word, (i / 1000, 0.0, (i + 1) / 1000, 1.0)) for i, word in enumerate(text.split())]
    return Page("a.pdf", number, None, (595, 842), tuple(words), "text")


def test_the_encoder_equals_the_model_library():
    ours = BertEncoder(WEIGHTS.path(), minilm.HEADS, torch.float32)
    theirs = BertModel.from_pretrained(WEIGHTS.path().parent, local_files_only=True, add_pooling_layer=False).eval()
    torch.manual_seed(0)
    tokens = torch.randint(1000, 20000, (3, 70))
    real = torch.arange(70) < torch.tensor([[70], [41], [2]])
    with torch.inference_mode():
        expected = theirs(input_ids=tokens, attention_mask=real.long()).last_hidden_state
    assert torch.allclose(ours(tokens, real)[real], expected[real], atol=2e-5)
    assert torch.allclose(ours(tokens[:1], real[:1])[0], expected[0], atol=2e-5)


@given(st.integers(0, 2000), st.integers(2, 200))
def test_windows_tile_the_page_and_every_token_has_context(n, window):
    spans = window_spans(n, window)
    assert [i for _, _, first, last in spans for i in range(first, last)] == list(range(n))
    assert all(stop - start <= window and start <= first < last <= stop for start, stop, first, last in spans)
    assert len(spans) == -(-n // window)


def test_doctests():
    assert doctest.testmod(minilm).failed == 0


def test_a_page_gives_one_unit_vector_per_word_piece_with_its_words_box(embedder):
    result = embedder.embed_pages([page("Quarterly K-40 figures")])[0]
    assert result.vectors.shape == (5, 384) and result.vectors.dtype == np.float16  # quarterly k - 40 figures
    assert np.linalg.norm(result.vectors.astype(np.float32), axis=1) == pytest.approx(np.ones(5), abs=2e-3)
    assert result.boxes[:, 0] == pytest.approx([0, 0.001, 0.001, 0.001, 0.002])
    assert not result.special.any()


def test_pages_without_words_and_long_pages_keep_their_places(embedder):
    long = page(" ".join(f"word{i} and" for i in range(400)))
    blank, result, short = embedder.embed_pages([page(""), long, page("one two")])
    assert blank.vectors.shape == (0, 384) and short.vectors.shape == (2, 384)
    assert len(result.vectors) == len(result.boxes) > 800
    assert (np.diff(result.boxes[:, 0]) >= 0).all()
    alone = embedder.embed_pages([page("one two")])[0]
    assert np.abs(alone.vectors.astype(np.float32) - short.vectors.astype(np.float32)).max() < 0.02


@pytest.mark.parametrize("threads", [1, 3])
def test_pages_that_cores_share_are_those_that_one_computes_and_torch_keeps_its_threads(threads):
    script = f"""
import threading
import numpy as np, torch
torch.set_num_threads({threads})
from colsearcher.retrieval.minilm import MiniLMEmbedder
from colsearcher.retrieval.page import Page, Word

words = [Word(f"word{{i}}", (0.0, 0.0, 1.0, 1.0)) for i in range(600)]
pages = [Page("a.pdf", n, None, (595, 842), tuple(words[n:]), "text") for n in range(1, 5)]
embedder = MiniLMEmbedder()
used = []
alone = MiniLMEmbedder()
hidden = embedder._hidden
embedder._hidden = lambda batch: used.append((threading.current_thread().name, torch.get_num_threads())) or hidden(batch)
together = embedder.embed_pages(pages)
assert len(used) > 3 and {{n for _, n in used}} == {{1}}, used
assert all(("colsearcher-embed" in name) == ({threads} > 1) for name, _ in used), used
assert torch.get_num_threads() == {threads}
late = []
thread = threading.Thread(target=lambda: late.append(torch.get_num_threads()))
thread.start(); thread.join()
assert late == [{threads}], late
torch.set_num_threads(1)
for one, other in zip(together, alone.embed_pages(pages)):
    assert (one.vectors == other.vectors).all()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_query_marks_special_tokens_shares_words_and_drops_punctuation(embedder):
    (query,) = embedder.embed_queries(["Who serviced pump Zyqra?"])
    assert query.words[:4] == ("", "who", "serviced", "pump") and query.words[-2:] == ("?", "")
    assert query.special.tolist() == [True, *[False] * (len(query.words) - 2), True]
    by_word = {word: sum(w for w, x in zip(query.weights, query.words, strict=True) if x == word) for word in set(query.words)}
    assert by_word == pytest.approx({"": minilm.SPECIAL_WEIGHT, "who": 1, "serviced": 1, "pump": 1, "zyqra": 1, "?": 0})


def test_a_query_is_the_same_alone_and_among_others(embedder):
    alone = embedder.embed_queries(["net margin"])[0].vectors
    among = embedder.embed_queries(["a much longer question about something else", "net margin"])[1].vectors
    assert (alone == among).all()


@pytest.mark.parametrize("text", ["", "   ", "?!"])
def test_a_question_without_a_word_is_refused(embedder, text):
    with pytest.raises(UserError, match="is empty"):
        embedder.embed_queries([text])


def test_an_unknown_embedder_is_refused_with_the_known_ones():
    with pytest.raises(ModelProblem, match=r"no embedder «bert»; choose minilm, the folder of a checkpoint, or a hub id"):
        load_embedder("bert")
