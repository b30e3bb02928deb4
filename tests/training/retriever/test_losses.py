import pytest
import torch
from torch.nn.functional import cross_entropy, normalize, softplus

from colsearcher.indexes.errors import UserError
from colsearcher.training.retriever.losses import make_loss

MANY = ("colbert", "colbert-pairwise", "colbert-sigmoid")
ONE = ("bi", "bi-pairwise", "bi-sigmoid", "bi-paired")


def vectors(*shape, seed):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("name", [*MANY, *ONE])
def test_every_loss_is_small_where_questions_match_their_pages_only(name, capsys):
    single = name in ONE
    shape = (4, 16) if single else (4, 3, 16)
    queries = vectors(*shape, seed=1)
    loss = make_loss(name, single=single, negatives=False, temperature=0.05)
    right, wrong = loss(queries, queries), loss(queries, queries.roll(1, 0))
    assert right < wrong and wrong - right > 1
    assert capsys.readouterr().out == ""


def test_the_default_is_cross_entropy_over_mean_maxsim():
    queries, pages = vectors(4, 3, 16, seed=1), vectors(4, 5, 16, seed=2)
    scores = torch.stack([torch.stack([(q @ p.T).amax(1).mean() for p in pages]) for q in queries])
    expected = cross_entropy(scores / 0.1, torch.arange(4))
    torch.testing.assert_close(make_loss(None, single=False, negatives=False, temperature=0.1)(queries, pages), expected)
    queries, pages = vectors(4, 16, seed=1), vectors(4, 16, seed=2)
    expected = cross_entropy(queries @ pages.T / 0.1, torch.arange(4))
    torch.testing.assert_close(make_loss(None, single=True, negatives=False, temperature=0.1)(queries, pages), expected)


@pytest.mark.parametrize("single", [False, True])
def test_hard_negatives_weigh_half(single):
    shape = (4, 16) if single else (4, 3, 16)
    queries, pages, negatives = vectors(*shape, seed=1), vectors(*shape, seed=2), vectors(4, 2, *shape[1:], seed=3)

    def score(q, p):
        return q @ p if single else (q @ p.T).amax(1).mean()

    hard = torch.stack([score(q, n) - score(q, p) for q, p, row in zip(queries, pages, negatives, strict=True) for n in row])
    within = make_loss(None, single=single, negatives=False, temperature=0.1)(queries, pages)
    loss = make_loss(None, single=single, negatives=True, temperature=0.1)(queries, pages, negatives)
    torch.testing.assert_close(loss, (softplus(hard / 0.1).mean() + within) / 2)


def test_what_does_not_fit_is_refused():
    for name in MANY:
        with pytest.raises(UserError, match="one vector"):
            make_loss(name, single=True, negatives=False, temperature=0.02)
    for name in ONE:
        with pytest.raises(UserError, match="many vectors"):
            make_loss(name, single=False, negatives=False, temperature=0.02)
    with pytest.raises(UserError, match="no hard negatives; choose one of colbert, colbert-pairwise"):
        make_loss("colbert-sigmoid", single=False, negatives=True, temperature=0.02)
    with pytest.raises(UserError, match="above 0"):
        make_loss(None, single=False, negatives=False, temperature=0.0)
