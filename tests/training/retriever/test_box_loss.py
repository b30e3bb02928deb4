"""The loss of boxes beside a slow reference, for every family with many vectors and both sides of padding."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tiny_checkpoints
import torch
from PIL import Image

from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.visual.embedder import VisualEmbedder
from colsearcher.retrieval.visual.families import FAMILIES
from colsearcher.retrieval.visual.loading import load_checkpoint
from colsearcher.training.question import GoldBox
from colsearcher.training.retriever.box_loss import BoxLoss
from colsearcher.training.retriever.pairs import Pair

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TEMPERATURE = 0.05
SIZES = [(200, 300), (300, 200), (120, 120)]
TEXTS = ["Where is the margin of 2025?", "valves, and the red valve", "a"]
BOXES = [[((0.1, 0.2, 0.6, 0.7), "margin of"), ((0.5, 0.5, 1, 1), "")], [((0.401, 0.402, 0.403, 0.404), "red valve")], []]


def embedder_of(name, folder):
    family = next(family for family in FAMILIES if family.name == name)
    return VisualEmbedder(load_checkpoint(str(tiny_checkpoints.save(family, folder)), device="cpu", dtype="fp32"))


def slow_reference(embedder, pairs, pictures, questions, pages):
    """The formula box by box and patch by patch; places and words are those of one page and one question at a time.

    `questions` and `pages` are the vectors of the batch, NaN where padding is.
    """
    losses = []
    for row, (pair, picture) in enumerate(zip(pairs, pictures, strict=True)):
        page, query = embedder.embed_pictures([picture])[0], embedder.embed_queries([pair.question])[0]
        q, p = (batched[row][~batched[row].isnan().any(1)].numpy() for batched in (questions.detach(), pages.detach()))
        query, page = replace(query, vectors=q), replace(page, vectors=p)
        for gold in pair.boxes:
            named = gold.words.split()
            if named:
                start = next(
                    i
                    for i in range(len(query.words))
                    if named == list(dict.fromkeys(w for w in query.words[i:] if w))[: len(named)]
                )
                tokens = [t for t in range(start, len(query.words)) if query.words[t] in named]
            else:
                tokens = [t for t, word in enumerate(query.words) if word in ("margin", "2025")]
            standing = [n for n in range(len(page.vectors)) if not page.special[n]]
            relevance = {n: max(float(query.vectors[t] @ page.vectors[n]) for t in tokens) for n in standing}
            x0, y0, x1, y1 = gold.box
            centre = {
                n: (page.boxes[n][0] / 2 + page.boxes[n][2] / 2, page.boxes[n][1] / 2 + page.boxes[n][3] / 2) for n in standing
            }
            inside = [n for n in standing if x0 <= centre[n][0] <= x1 and y0 <= centre[n][1] <= y1]
            if not inside:
                x, y = (x0 + x1) / 2, (y0 + y1) / 2
                (inside,) = [
                    [n]
                    for n in standing
                    if page.boxes[n][0] <= x < page.boxes[n][2] and page.boxes[n][1] <= y < page.boxes[n][3]
                ]
            total = sum(math.exp(r / TEMPERATURE) for r in relevance.values())
            losses.append(-math.log(sum(math.exp(relevance[n] / TEMPERATURE) for n in inside) / total))
    return sum(losses) / len(losses)


def batch(boxes=BOXES):
    pairs = [
        Pair(text, f"a.pdf#p={i}", frozenset(), (), tuple(GoldBox(Address("a.pdf", i, box), words) for box, words in given))
        for i, (text, given) in enumerate(zip(TEXTS, boxes, strict=True), 1)
    ]
    rng = np.random.default_rng(0)
    return pairs, [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def vectors(embedder, inputs):
    """As the trainer has them, as leaves of the gradient; where padding is, what some families make of it."""
    given = {key: value for key, value in inputs.items() if key != "labels"}
    if embedder._checkpoint.family.model_type == "paligemma":
        given["logits_to_keep"] = 1
    with torch.no_grad():
        found = embedder._model(**given).float()
    return torch.where(inputs["attention_mask"].bool()[..., None], found, float("nan")).requires_grad_()


@pytest.mark.parametrize("name", [family.name for family in FAMILIES if not family.single])
def test_the_loss_is_the_formula_s_and_padding_does_not_touch_it(name, tmp_path):
    embedder = embedder_of(name, tmp_path)
    processor = embedder._processor
    pairs, pictures = batch()
    questions, pages = processor.process_queries(TEXTS), processor.process_images(pictures)
    loss = BoxLoss(embedder, weight=1, temperature=TEMPERATURE)
    targets = loss.targets(pairs, questions, pages)
    assert targets.pairs_K.tolist() == [0, 0, 1]
    given = vectors(embedder, questions), vectors(embedder, pages)
    found = loss(*given, targets)
    assert float(found.detach()) == pytest.approx(slow_reference(embedder, pairs, pictures, *given), rel=1e-3)
    found.backward()
    for inputs, leaf in zip((questions, pages), given, strict=True):
        assert torch.isfinite(leaf.grad).all() and leaf.grad[:2].any() and not leaf.grad[2].any()
        assert not leaf.grad[~inputs["attention_mask"].bool()].any()
    assert not questions["attention_mask"].all()


def test_steps_along_the_gradient_bring_the_peak_into_the_box(tmp_path):
    embedder = embedder_of("ColPali", tmp_path)
    processor = embedder._processor
    pairs, pictures = batch()
    questions, pages = processor.process_queries(TEXTS), processor.process_images(pictures)
    loss = BoxLoss(embedder, weight=1, temperature=TEMPERATURE)
    targets = loss.targets(pairs, questions, pages)
    torch.manual_seed(0)
    q, p = (torch.randn(3, inputs["input_ids"].shape[1], 8, requires_grad=True) for inputs in (questions, pages))
    optimizer = torch.optim.Adam([q, p], lr=0.05)
    unit = torch.nn.functional.normalize
    losses = []
    for _ in range(60):
        losses.append(loss(unit(q, dim=-1), unit(p, dim=-1), targets))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[0].detach() > 1 and losses[-1].detach() < 0.01


def test_a_batch_without_boxes_has_no_loss_of_them(tmp_path):
    embedder = embedder_of("ColPali", tmp_path)
    pairs, pictures = batch([[], [], []])
    processor = embedder._processor
    loss = BoxLoss(embedder, weight=1, temperature=TEMPERATURE)
    assert loss.targets(pairs, processor.process_queries(TEXTS), processor.process_images(pictures)) is None


def test_what_has_no_places_or_no_such_words_is_refused(tmp_path):
    with pytest.raises(UserError, match="BiPaliProj makes one vector of a page"):
        BoxLoss(embedder_of("BiPaliProj", tmp_path / "bi"), weight=1, temperature=TEMPERATURE)
    embedder = embedder_of("ColPali", tmp_path / "col")
    with pytest.raises(UserError, match="must be above 0"):
        BoxLoss(embedder, weight=-1, temperature=TEMPERATURE)
    pairs, pictures = batch()
    processor = embedder._processor
    wrong = [replace(pairs[0], boxes=(GoldBox(Address("a.pdf", 1, (0, 0, 1, 1)), "of margin"),)), *pairs[1:]]
    with pytest.raises(UserError, match="«of margin» are not found"):
        BoxLoss(embedder, weight=1, temperature=TEMPERATURE).targets(
            wrong, processor.process_queries(TEXTS), processor.process_images(pictures)
        )
