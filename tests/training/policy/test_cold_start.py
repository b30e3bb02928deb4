"""Examples to begin with are real conversations, and learning from them touches the policy's tokens only."""

from __future__ import annotations

import json

import pytest
from fake_embedder import HashEmbedder
from fake_retriever import PAGES, Shelf
from tiny_policy import tiny_policy

from colsearcher.agent.protocol import REASONING
from colsearcher.agent.record import Budgets
from colsearcher.agent.source import Source
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.passages import index_passages
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.policy import cold_run
from colsearcher.training.policy.adapters import trainable
from colsearcher.training.policy.cold_run import ColdRun, cold_start, make_examples
from colsearcher.training.policy.cold_start import examples, key_words
from colsearcher.training.policy.sft import Cold, rows_of
from colsearcher.training.question import Question

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*PEFT.*:UserWarning"),
]

BUDGETS = Budgets(total_tokens=1500, document_tokens=200)


def question(text, answer, *pages):
    return Question(text, text, (answer,), frozenset(Address.parse(page) for page in pages))


ONE = question("Which valve replaces part K-40?", "V-118", "pump.pdf#p=12")
TWO = question(
    "What torque do the screws of the valve that replaces part K-40 need?", "22 Nm", "pump.pdf#p=12", "pump.pdf#p=13"
)
HIDDEN = question("Who painted the harbour?", "Ada Finch", "harbour.pdf#p=1")
WRONG = question("Which valve replaces part K-40?", "V-999", "pump.pdf#p=12")


@pytest.fixture
def engine():
    return TransformersEngine(tiny_policy(context=4096))


def taught(engine, *questions, shelf=None):
    return list(examples(questions, PAGES, engine, shelf or Shelf(), REASONING, BUDGETS))


def test_an_example_is_a_conversation_of_the_same_loop(engine):
    (example,) = taught(engine, ONE)
    assert "<begin_of_query> valve replaces part K-40 <end_of_query>" in example.text
    assert "(1) [pump.pdf#p=12]" in example.text and "<answer> V-118 (1) </answer>" in example.text
    assert engine.decode(example.ids) == example.text
    written = engine.decode([token for token, learned in zip(example.ids, example.mask, strict=True) if learned])
    assert "[pump.pdf#p=12]" not in written and "V-118 (1) </answer>" in written
    assert example.prompt_ids == tuple(engine.encode_chat(REASONING.messages(ONE.text)))


def test_what_the_corpus_does_not_hold_or_say_is_no_example(engine):
    assert taught(engine, HIDDEN, WRONG) == []
    kept = taught(engine, ONE, HIDDEN, TWO, WRONG)
    assert [example.question for example in kept] == [ONE.text, TWO.text]


def test_a_second_search_is_for_a_document_that_has_been_named(engine):
    pages = {
        "Old Pump#p=1": "The valve K-40 was replaced. See Green Valve.",
        "Green Valve#p=1": "Its torque is 22 Nm.",
        "Other#p=1": "Nothing of it, but valve, valve and old pump K-40.",
        "More#p=1": "An old pump and valve K-40 again.",
    }
    asked = question("What torque has the valve that replaced K-40?", "22 Nm", "Old Pump#p=1", "Green Valve#p=1")
    (example,) = list(examples([asked], pages, engine, Shelf(pages), REASONING, Budgets(total_tokens=1500, documents=2)))
    assert "<begin_of_query> Green Valve <end_of_query>" in example.text
    unnamed = {**pages, "Old Pump#p=1": "The valve K-40 was replaced."}
    assert list(examples([asked], unnamed, engine, Shelf(unnamed), REASONING, Budgets(total_tokens=1500, documents=2))) == []


def test_of_a_long_line_what_leads_from_question_to_answer_is_thought(engine):
    cells = " ".join(f"Row {n} {n}.5" for n in range(1000, 1040))
    pages = {
        "report.pdf#p=1": f"Report 2025 {cells} Revenue 2024 2025 Grey Lake 12.8 14.1 {cells}",
        "other.pdf#p=1": "Nothing.",
    }
    asked = question("What revenue had Grey Lake in 2025?", "14.1", "report.pdf#p=1")
    (example,) = list(examples([asked], pages, engine, Shelf(pages), REASONING, Budgets(total_tokens=2500, documents=1)))
    assert "\n(1) … Revenue 2024 2025 Grey Lake 12.8 14.1 Row 1000 …\n</think>" in example.text


def test_a_title_is_no_thought(engine):
    pages = {"Grey Lake (seal)#p=1": "Grey Lake (seal). It was found by Otto Fen.", "other.pdf#p=1": "Nothing."}
    asked = question("Who found Grey Lake, the seal?", "Otto Fen", "Grey Lake (seal)#p=1")
    (example,) = list(examples([asked], pages, engine, Shelf(pages), REASONING, Budgets(total_tokens=1500, documents=1)))
    assert "(1) It was found by Otto Fen." in example.text


def test_yes_and_no_need_every_gold_page(engine):
    asked = question("Is part K-40 a check valve?", "yes", "pump.pdf#p=12")
    assert "<answer> yes (1) </answer>" in taught(engine, asked)[0].text
    assert taught(engine, question("Is part K-40 a check valve?", "yes", "pump.pdf#p=12", "harbour.pdf#p=1")) == []


def test_making_examples_tells_how_far_it_is(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(cold_run, "_TELL_EVERY", 2)
    documents = {f"Pump {n}": (f"Pump {n} has the valve V-{n}.",) for n in range(5)}
    asked = [question(f"Which valve has pump {n}?", f"V-{min(n, 3)}", f"Pump {n}#p=1") for n in range(5)]
    told: list[str] = []
    embedder = HashEmbedder()
    with index_passages(tmp_path / "index", documents, embedder) as index:
        made = make_examples([HIDDEN, *asked], Source.of(Searcher(index, embedder)), engine, BUDGETS, told.append)
    assert len(made) == 4 and len(told) == 3
    assert told[0].startswith("2/5 conversations, ") and told[0].endswith(" left")
    assert told[1].startswith("4/5 conversations, ") and told[2] == "5/5 conversations, 4 kept"


def test_labels_are_the_policys_tokens_and_the_end(engine):
    (example,) = taught(engine, ONE)
    rows = rows_of([example], eos=1)
    (ids,), (labels,) = rows["input_ids"], rows["labels"]
    assert ids == [*example.prompt_ids, *example.ids, 1] and len(labels) == len(ids)
    learned = [token for token in labels if token != -100]
    assert learned == [*[t for t, m in zip(example.ids, example.mask, strict=True) if m], 1]
    assert set(labels[: len(example.prompt_ids)]) == {-100}


def test_key_words():
    assert key_words("Is it?") == "Is it?"
    assert key_words('In which year did the "Grey Seal" sail?') == "year Grey Seal sail"


class TestRun:
    """Examples, steps and a kill."""

    def run(self, folder, *, resume=False, steps=6, told=None, made=None):
        base = folder.parent / "base"
        plain = tiny_policy(context=4096)
        plain.model.save_pretrained(base)
        plain.tokenizer.save_pretrained(base)
        policy = trainable(str(base), 4, "cpu")
        engine = TransformersEngine(policy)

        def make():
            if made is not None:
                made.append(1)
            return taught(engine, *[question(f"{ONE.text} {n}", "V-118", "pump.pdf#p=12") for n in range(8)])

        recipe = Cold(batch=4, at_once=2, lr=5e-3, max_steps=steps, save_every=2)
        asked = ColdRun(recipe, BUDGETS, lora_rank=4)
        return cold_start(asked, {"qa": "x"}, policy, folder, make, resume=resume, tell=(told or []).append)

    def test_the_loss_falls_and_the_adapter_is_saved(self, tmp_path):
        result = self.run(tmp_path / "run")
        assert result["steps"] == 6 and result["loss"] < result["first_loss"] - 0.2
        assert (tmp_path / "run/model/adapter_config.json").is_file()

    def test_killed_and_resumed_it_goes_on_as_if_nothing_had_happened(self, tmp_path):
        whole = self.run(tmp_path / "whole")
        made: list[int] = []
        self.killed(tmp_path / "cut", made)
        with pytest.raises(UserError, match="--resume"):
            self.run(tmp_path / "cut")
        told: list[str] = []
        again = self.run(tmp_path / "cut", resume=True, told=told, made=made)
        assert made == [1], "examples are not made twice"
        assert again["loss"] == pytest.approx(whole["loss"], abs=1e-6)
        rows = [json.loads(line) for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
        other = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
        assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in other], abs=1e-6)

    def killed(self, folder, made):
        from transformers import Trainer

        original = Trainer.training_step
        count = 0

        def step(trainer, *words, **more):
            nonlocal count
            count += 1
            if count > 7:
                raise KeyboardInterrupt
            return original(trainer, *words, **more)

        Trainer.training_step = step
        try:
            with pytest.raises(KeyboardInterrupt):
                self.run(folder, made=made)
        finally:
            Trainer.training_step = original
