import re

import pytest
import tiny_checkpoints
import torch

from colsearcher.indexes.errors import ModelProblem, UserError
from colsearcher.retrieval.visual.families import FAMILIES
from colsearcher.training.retriever.adapters import add_lora, plain, target_modules


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_lora_adapts_the_language_model_and_the_projection_and_nothing_that_sees(family):
    model, _ = tiny_checkpoints.build(family)
    pattern = re.compile(target_modules(model))
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    adapted = [name for name in linear if pattern.fullmatch(name)]
    assert all("vision" not in name and "visual" not in name and "lm_head" not in name for name in adapted)
    inside = [name for name in linear if "language_model." in name or "text_model." in name]
    assert set(adapted) >= {name for name in inside if not name.endswith("lm_head")}
    assert family.single or {"custom_text_proj", "linear"} & set(adapted)


def test_a_merged_model_is_a_plain_one_with_the_same_outputs():
    model, processor = tiny_checkpoints.build(FAMILIES[0])
    names = set(model.state_dict())
    adapted = add_lora(model, 4, base="somewhere", seed=0).eval()
    learning = [(name, p) for name, p in adapted.named_parameters() if p.requires_grad]
    assert learning and all("lora_" in name for name, _ in learning)
    with torch.no_grad():
        for _, parameter in learning:
            parameter.normal_(0, 0.3)
        inputs = processor.process_queries(["what?"])
        expected = adapted(**inputs)
        with pytest.raises(ValueError, match="not merged"):
            plain(model)
        adapted.base_model.merge_adapter()
        again = plain(model)
        torch.testing.assert_close(again(**inputs), expected)
    assert set(again.state_dict()) == names


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(ModelProblem, match="--full"):
        target_modules(torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="must be 1 or more"):
        add_lora(torch.nn.Linear(2, 2), 0, base="somewhere", seed=0)
