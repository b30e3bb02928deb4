import doctest

import numpy as np
import pytest
from page_oracle import unit

from colsearcher.indexes import codecs, rotation
from colsearcher.indexes.codecs import CODECS, load_codec
from colsearcher.indexes.errors import UserError
from colsearcher.indexes.rotation import rotate, rotate_back


def test_doctests():
    assert doctest.testmod(codecs).failed == 0
    assert doctest.testmod(rotation).failed == 0


@pytest.mark.parametrize("dim", [1, 8, 100, 128, 384, 513, 2560, 4096])
def test_a_rotation_keeps_inner_products_and_turns_back(dim):
    x = unit(np.random.default_rng(0), 5, dim)
    np.testing.assert_allclose(rotate(x) @ rotate(x).T, x @ x.T, atol=1e-5)
    np.testing.assert_allclose(rotate_back(rotate(x)), x, atol=1e-5)


def test_a_rotation_spreads_what_lies_in_one_component():
    for dim in (128, 1024):
        turned = rotate(np.eye(dim, dtype=np.float32)[:3])
        assert np.abs(turned).max() < 0.5


# Mean squared error of a Gaussian component on the best even grid of 2^bits levels (Max 1960, table II), and of int8.
@pytest.mark.parametrize(("name", "error"), [("int8", 1e-4), ("4bit", 0.01154), ("2bit", 0.1188), ("1bit", 0.3634)])
def test_the_error_is_that_of_the_best_even_grid(name, error):
    x = unit(np.random.default_rng(1), 4000, 128, np.float16)
    codec = CODECS[name]
    y = codec.decode(codec.encode(x), 128)
    cosine = (y * x).sum(1) / np.linalg.norm(y, axis=1)
    assert 1 - cosine.mean() ** 2 < 1.02 * error


@pytest.mark.parametrize("name", ["int8", "4bit", "2bit", "1bit"])
def test_inner_products_with_codes_are_unbiased(name):
    rng = np.random.default_rng(2)
    x, q = unit(rng, 20_000, 64), unit(rng, 1, 64)
    near = unit(rng, 1, 64) * 0.3 + x
    codec = CODECS[name]
    read_back = codec.decode(codec.encode(near), 64)
    assert ((read_back - near) @ q[0]).mean() == pytest.approx(0, abs=4e-3)
    # Along the vector itself there is no error at all: f = <y, y> / <c, y>.
    np.testing.assert_allclose((read_back * near).sum(1), (near * near).sum(1), rtol=2e-3)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("dim", [1, 7, 8, 100, 128])
def test_codes_have_the_stated_size_and_do_not_depend_on_what_is_encoded_with_them(name, dim):
    codec = CODECS[name]
    x = unit(np.random.default_rng(3), 40, dim, np.float16)
    encoded = codec.encode(x)
    stored = encoded.codes.nbytes + encoded.factors.nbytes
    assert stored == 40 * codec.bytes_per_vector(dim)
    alone = [codec.encode(x[i : i + 1]) for i in range(40)]
    assert np.array_equal(np.concatenate([one.codes for one in alone]), encoded.codes)
    assert np.array_equal(np.concatenate([one.factors for one in alone]), encoded.factors)


def test_a_vector_of_zeros_stays_one():
    for codec in CODECS.values():
        assert not codec.decode(codec.encode(np.zeros((2, 16), np.float32)), 16).any()


def test_an_unknown_codec_is_one_sentence():
    with pytest.raises(UserError, match="There is no codec «3bit»; choose one of fp16, int8, 4bit, 2bit, 1bit"):
        load_codec("3bit")
