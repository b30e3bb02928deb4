import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colsearcher.indexes import address
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError

fractions = st.integers(0, 10_000).map(lambda n: n / 10_000)
boxes = (
    st.tuples(fractions, fractions, fractions, fractions)
    .map(lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])))
    .filter(lambda b: b[0] < b[2] and b[1] < b[3])
)


def test_doctests():
    assert doctest.testmod(address).failed == 0


@given(st.text(min_size=1), st.integers(1, 10**6), st.none() | boxes)
def test_round_trip(document, page, box):
    place = Address(document, page, box)
    assert Address.parse(str(place)) == place


@given(st.tuples(*[st.floats(0, 1)] * 4).filter(lambda b: b[0] < b[2] and b[1] < b[3]))
def test_every_box_prints_as_one_that_is_read_back(box):
    read = Address.parse(str(Address("a.pdf", 1, box))).box
    assert read == pytest.approx(box, abs=1.01e-4)


@pytest.mark.parametrize(
    "text",
    ["report.pdf", "report.pdf#p=0", "#p=1", "a.pdf#p=x", "a.pdf#p=1&box=0,0,1", "a.pdf#p=1&box=0.5,0,0.5,1",
     "a.pdf#p=1&box=0,0,2,1", "a.pdf#p=1&box=a,b,c,d", "a.pdf#p=1&box=nan,0,1,1", "a.pdf#p=1&box=",
     "a.pdf#p=99999999999999999999"],
)  # fmt: skip
def test_bad_addresses_are_refused_in_one_sentence(text):
    with pytest.raises(UserError) as error:
        Address.parse(text)
    assert text in str(error.value)
