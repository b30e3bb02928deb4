import numpy as np
import pytest

from colsearcher.indexes.kernels.encode import widened
from colsearcher.indexes.kernels.product import multiply, panels_of


@pytest.mark.parametrize(
    ("n", "depth", "dim"), [(0, 3, 3), (1, 1, 1), (7, 100, 100), (20, 45, 64), (33, 96, 70), (582, 384, 384)]
)
def test_a_product_is_that_of_numpy_and_each_row_its_own(n: int, depth: int, dim: int) -> None:
    rng = np.random.default_rng(1)
    rows, matrix = rng.normal(size=(n, depth)).astype(np.float32), rng.normal(size=(depth, dim)).astype(np.float32)
    product = multiply(rows, panels_of(matrix), dim)
    assert product.shape == (n, dim) and product.dtype == np.float32
    np.testing.assert_allclose(product, rows.astype(float) @ matrix.astype(float), atol=1e-4)
    for i in range(0, n, 5):
        assert np.array_equal(multiply(rows[i : i + 3], panels_of(matrix), dim), product[i : i + 3])


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (5, 7), (3, 32)])
def test_every_float16_number_is_widened_exactly(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    finite = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = finite[np.isfinite(finite)]
    halves = rng.choice(finite, shape)
    assert np.array_equal(widened(halves), halves.astype(np.float32)) and widened(halves).dtype == np.float32
    assert np.array_equal(widened(finite[None]), finite[None].astype(np.float32))
    assert np.array_equal(widened(halves[:, ::2].astype(float)), halves[:, ::2].astype(np.float32))
