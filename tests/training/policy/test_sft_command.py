import json
import shutil

import pytest
import torch
from command_line import call, complaint
from safetensors.torch import load_file
from tiny_policy import tiny_policy

from colsearcher.agent.policy import load_policy
from colsearcher.indexes.errors import ModelProblem

TEXTS = {
    "Heron Shoal": "The light of Heron Shoal was built by Ada Finch in 1871.",
    "Ada Finch": "Ada Finch was born in Wick.",
    "Wick": "Wick Harbour has two piers.",
    "Grey Seal": "The Grey Seal sailed in 1902.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sft")
    policy = tiny_policy(context=4096)
    policy.model.save_pretrained(folder / "policy")
    policy.tokenizer.save_pretrained(folder / "policy")
    context = [{"title": title, "sentences": [text]} for title, text in TEXTS.items()]
    asked = [
        ("Who built the light of Heron Shoal?", "Ada Finch", "Heron Shoal"),
        ("When did the Grey Seal sail?", "1902", "Grey Seal"),
    ]
    records = [
        {"id": str(n), "question": text, "answers": [answer], "context": context, "supporting_facts": [{"title": title}]}
        for n, (text, answer, title) in enumerate(asked)
    ]
    (folder / "qa.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "held-out.jsonl").write_text(json.dumps({**records[1], "question": "when did the grey seal sail"}) + "\n")
    return folder


@pytest.mark.slow
def test_from_questions_to_an_adapter(folder):
    command = ["train", "sft", "--qa", folder / "qa.jsonl", "--policy", folder / "policy", "--out", folder / "run"]
    command += [
        "--steps",
        3,
        "--batch",
        1,
        "--at-once",
        1,
        "--lora-rank",
        2,
        "--lr",
        0.05,
        "--exclude",
        folder / "held-out.jsonl",
    ]
    done = call(*command, "--json")
    result = json.loads(done.stdout)
    assert result["examples"] == 1 and result["steps"] == 3
    assert "1 questions, 1 left out" in done.stderr and "tokens" in done.stderr
    (example,) = [json.loads(line) for line in (folder / "run/examples.jsonl").read_text().splitlines()]
    assert "<answer> Ada Finch (" in example["text"]
    assert (folder / "run/model/adapter_model.safetensors").is_file()
    assert "add --resume" in complaint(*command)
    loaded = load_policy(str(folder / "run/model"), device="cpu")
    base = load_policy(str(folder / "policy"), device="cpu")
    assert "adapter on" in loaded.describe() and loaded.revision != base.revision
    moved = [
        name for name, p in loaded.model.named_parameters() if not torch.equal(p, dict(base.model.named_parameters())[name])
    ]
    assert moved and all("proj" in name for name in moved)
    again = json.loads(call(*command, "--resume", "--json").stdout)
    assert again == result
    # Killed after its last step and before the model was stored: no further step is taken.
    learned = load_file(folder / "run/model/adapter_model.safetensors")
    shutil.rmtree(folder / "run/model")
    assert json.loads(call(*command, "--resume", "--json").stdout) == result
    stored = load_file(folder / "run/model/adapter_model.safetensors")
    assert all(torch.equal(stored[name], weight) for name, weight in learned.items())


def test_what_is_missing_is_said(folder):
    bare = folder / "bare.jsonl"
    bare.write_text(json.dumps({"id": "1", "question": "Who?", "answer": "Ada"}) + "\n")
    assert "bring no paragraphs" in complaint("train", "sft", "--qa", bare, "--out", folder / "none")


def test_an_adapter_without_its_base_is_one_sentence(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(ModelProblem, match="neither a model folder nor found"):
        load_policy(str(tmp_path), device="cpu", local=True)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelProblem, match="names no base model"):
        load_policy(str(tmp_path), device="cpu", local=True)
