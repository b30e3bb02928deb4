"""`train merge`: what it takes for a policy, and that a merged policy is the one that was trained."""

import json

import pytest
import torch
from peft import LoraConfig
from tiny_policy import tiny_policy_of
from tiny_vision_policy import tiny_vision_policy

from colsearcher.agent import cli
from colsearcher.agent.policy import load_policy
from colsearcher.indexes.errors import UserError
from colsearcher.training.merge_command import is_policy, trained_model
from colsearcher.training.policy.adapters import LORA_TARGETS, save_policy, trainable


def adapted(name, seed):
    """A policy with an adapter that changes something, in float32."""
    policy = trainable(str(name), 4, "cpu")
    torch.manual_seed(seed)
    for weight, values in policy.model.named_parameters():
        if "lora_B" in weight:
            torch.nn.init.normal_(values, std=0.2)
    return policy


@pytest.fixture
def base(tmp_path):
    save_policy(tiny_policy_of("llama"), tmp_path / "base")
    return tmp_path / "base"


def logits(name):
    policy = load_policy(str(name), device="cpu")
    with torch.no_grad():
        return policy.model.float()(torch.tensor([[5, 6, 7, 8]])).logits


def test_the_merged_policy_of_the_last_stage_is_that_policy(base, tmp_path, capsys):
    run = tmp_path / "run"
    for seed, stage in enumerate(("retrieval", "answer")):
        (run / stage).mkdir(parents=True)
        save_policy(adapted(base, seed), run / stage / "model")
    assert cli.main(["train", "merge", str(run), "-o", str(tmp_path / "merged")]) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'merged'}\n" and f"merging the policy {run / 'answer/model'}" in said.err
    assert not (tmp_path / "merged/adapter_config.json").exists()
    merged, last, first, before = map(logits, (tmp_path / "merged", run / "answer/model", run / "retrieval/model", base))
    torch.testing.assert_close(merged, last, atol=1e-2, rtol=1e-2)
    assert (merged - first).abs().max() > 0.3 and (merged - before).abs().max() > 0.3
    assert load_policy(str(tmp_path / "merged")).tokenizer.decode([5]) == load_policy(str(base)).tokenizer.decode([5])
    assert cli.main(["train", "merge", str(run), "-o", str(tmp_path / "merged")]) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_policy_that_sees_brings_its_processor_along(tmp_path):
    save_policy(tiny_vision_policy(), tmp_path / "base")
    save_policy(adapted(tmp_path / "base", 0), tmp_path / "run/model")
    assert cli.main(["train", "merge", str(tmp_path / "run"), "-o", str(tmp_path / "merged")]) == 0
    assert load_policy(str(tmp_path / "merged")).cutter is not None
    torch.testing.assert_close(logits(tmp_path / "merged"), logits(tmp_path / "run/model"), atol=1e-2, rtol=1e-2)


def test_a_policy_trained_in_all_its_weights_is_known_by_its_run(base, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    whole = tiny_policy_of("llama", seed=1)
    save_policy(whole, run / "model")
    (run / "config.json").write_text(json.dumps({"policy": str(base), "lora_rank": 0}))
    assert is_policy(run / "model")
    assert cli.main(["train", "merge", str(run), "-o", str(tmp_path / "merged")]) == 0
    torch.testing.assert_close(logits(tmp_path / "merged"), logits(run / "model"))
    (run / "config.json").write_text(json.dumps({"base": "a checkpoint"}))
    assert not is_policy(run / "model")


def test_an_adapter_of_a_retriever_is_none_of_a_policy(tmp_path):
    for kind in ("FEATURE_EXTRACTION", "CAUSAL_LM"):
        LoraConfig(r=2, target_modules=LORA_TARGETS, task_type=kind).save_pretrained(str(tmp_path / kind))
        assert is_policy(tmp_path / kind) == (kind == "CAUSAL_LM")


def test_what_has_no_model_is_said(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        trained_model(tmp_path / "nothing")
    (tmp_path / "run/retrieval").mkdir(parents=True)
    (tmp_path / "run/retrieval/metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="has no model yet"):
        trained_model(tmp_path / "run")
    (tmp_path / "run/retrieval/model").mkdir()
    assert trained_model(tmp_path / "run") == tmp_path / "run/retrieval/model"
