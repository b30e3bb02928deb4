"""A world small enough to learn in minutes on a CPU: what the code of a name is stands in a document, and nowhere else.

    What is the code of kimo ?        the code of kimo is ra .

A name is two syllables, a code one: a policy that can copy what is asked can learn to copy what it reads.

A policy of about a million weights starts from a cold start that answers by guessing and rarely searches; whatever it learns
beyond that it learns from rewards. The parts are the real ones: tokenizer, chat template, transformers model, protocol,
rollouts, rewards.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from colsearcher.agent.engine import Sampling
from colsearcher.agent.policy import Policy
from colsearcher.agent.protocol import ANSWER, BEGIN_QUERY, END_ANSWER, END_QUERY, END_THINK, TAGS, Protocol
from colsearcher.agent.record import Budgets, Task
from colsearcher.agent.retriever import Passage
from colsearcher.agent.rollout import run_rollouts
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.indexes.address import Address
from colsearcher.training.policy.cold_start import example_of
from colsearcher.training.policy.outcome import outcome_of
from colsearcher.training.policy.recipe import Recipe
from colsearcher.training.policy.rewards import answer_f1
from colsearcher.training.policy.sft import Cold, sft_trainer
from colsearcher.training.policy.teacher import taught_rollouts
from colsearcher.training.policy.trainer import World
from colsearcher.training.question import Question

PROTOCOL = Protocol(variant="reasoning", system="Look it up.")
BUDGETS = Budgets(total_tokens=160, turn_tokens=24, searches=2, documents=1, document_tokens=40)

_SYLLABLES = [onset + vowel for onset in "bdfklmrt" for vowel in "aio"]
# Tokens from a name or code to where it is said again: from question to thought, to query, and from document to answer.
DISTANCE = 8
_WORDS = "Look it up . What is the code of ?".split()
_TEMPLATE = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"


@dataclass(frozen=True)
class KeyValueWorld:
    """Names with their codes.

    Attributes:
        codes: name to code, of all names.
        learned, held_out: questions about some names and about others; the documents hold all.
    """

    codes: Mapping[str, str]
    learned: tuple[Question, ...]
    held_out: tuple[Question, ...]


def key_value_world(names: int = 400, held_out: int = 60, seed: int = 0) -> KeyValueWorld:
    """A world of so many names."""
    rng = random.Random(seed)
    made: dict[str, str] = {}
    while len(made) < names:
        made.setdefault(rng.choice(_SYLLABLES) + rng.choice(_SYLLABLES), rng.choice(_SYLLABLES))
    questions = [
        Question(name, f"What is the code of {name} ?", (code,), frozenset({Address(name, 1)})) for name, code in made.items()
    ]
    return KeyValueWorld(made, tuple(questions[held_out:]), tuple(questions[:held_out]))


class Dictionary:
    """The retriever of a world: the documents of the names in a query, in their order there."""

    def __init__(self, world: KeyValueWorld) -> None:
        self._codes = world.codes

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        return [self._found(query)[:k] for query in queries]

    def _found(self, query: str) -> list[Passage]:
        names = [word for word in dict.fromkeys(query.split()) if word in self._codes]
        return [Passage(Address(name, 1), f"the code of {name} is {self._codes[name]} .", 1.0) for name in names]


class GuessingTeacher:
    """Writes the conversations of a cold start that has everything left to learn: it restates what is asked, then searches for
    it, or says what it always says.

    Args:
        searches: how often it searches at all.
        reads: how often, when it has searched, it answers what it read.
    """

    def __init__(self, question: Question, rng: random.Random, searches: float, reads: float) -> None:
        self._question = question
        self._will_search, self._will_read = rng.random() < searches, rng.random() < reads
        self._searched = False

    @property
    def question(self) -> str:
        return self._question.text

    def event(self, kind: str, data: Mapping[str, object]) -> None:
        return

    def turn(self) -> str:
        asked = f"code of {self._question.id}"
        if self._will_search and not self._searched:
            self._searched = True
            return f"{asked} Look it {BEGIN_QUERY} {asked} {END_QUERY}"
        read = self._searched and self._will_read
        answer = self._question.answers[0] if read else _SYLLABLES[0]
        return f"{'' if self._searched else asked + ' '}{END_THINK}\n{ANSWER} {answer} {END_ANSWER}"


def learn_to_repeat(policy: Policy, steps: int = 80, seed: int = 0) -> float:
    """What any pretrained model brings along, to take up what was said before: here random words, each after `DISTANCE` tokens
    once more. Returns the last loss, in nats a token."""
    tokens = torch.tensor([policy.tokenizer.convert_tokens_to_ids(space + word) for space in (" ", "") for word in _SYLLABLES])
    random_numbers = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=2e-3)
    policy.model.train()
    loss = torch.zeros(())
    for _ in range(steps):
        said = tokens[torch.randint(len(tokens), (32, DISTANCE), generator=random_numbers)].repeat(1, 5)
        logits = policy.model(said).logits[:, DISTANCE - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), said[:, DISTANCE:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.model.eval()
    return float(loss.detach())


def practice_policy(seed: int = 0, hidden: int = 128, layers: int = 4) -> Policy:
    """A Llama with random weights and a tokenizer in which every tag and code is one token, and a name two of them: names
    that were never seen are known."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<|im_end|>", *alphabet])}
    bytes_ = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=_TEMPLATE
    )
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in TAGS])
    # With the space before it, as in language models: a space of its own would stand between all that belongs together.
    words = [*_WORDS, *_SYLLABLES]
    tokenizer.add_tokens([AddedToken(space + word, special=False) for space in (" ", "") for word in words])
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config).eval()
    return Policy("practice", str(seed), model, tokenizer, "cpu", "float32", "random weights")


def cold_policy(world: KeyValueWorld, folder: Path, *, searches: float = 0.15, reads: float = 0.25, seed: int = 0) -> Policy:
    """A policy after a cold start that has everything left to learn. It can search and read, as a pretrained model can, and has
    the habit of neither: it restates what is asked, seldom searches, and seldom answers what it has read.

    Args:
        folder: for what the trainer writes.
        searches, reads: see `GuessingTeacher`.
    """
    policy = practice_policy(seed)
    learn_to_repeat(policy, seed=seed)
    rng = random.Random(seed)

    def imitate(steps: int, *habits: float) -> None:
        asked = [world.learned[number % len(world.learned)] for number in range(40 * steps)]
        teachers = [GuessingTeacher(question, rng, *habits) for question in asked]
        taught = taught_rollouts(teachers, TransformersEngine(policy), Dictionary(world), PROTOCOL, BUDGETS)
        examples = [example_of(rollout) for _, rollout in taught]
        recipe = Cold(max_steps=steps, batch=40, at_once=40, lr=2e-3, seed=seed, save_every=10**6)
        sft_trainer(policy.model, policy.tokenizer, examples, recipe, folder).train()
        policy.model.eval()

    # At which step a policy suddenly begins to copy what it reads, and to copy it always, is chance: between 60 and 200.
    for _ in range(5):
        imitate(60, 1.0, 1.0)
        if rates(policy, world).f1 > 0.95:
            break
    imitate(100, searches, reads)
    return policy


def world_to_train_in(world: KeyValueWorld, recipe: Recipe) -> World:
    """The learned questions, to be searched in all documents."""
    dictionary = Dictionary(world)
    questions = {question.id: question for question in world.learned}
    return World(questions, lambda question: dictionary, PROTOCOL, recipe.reward_sum(), recipe.budgets())


@dataclass(frozen=True)
class Rates:
    """Of the held-out questions: how many it finds the document of, its mean F1, and how often it keeps the format."""

    search: float
    f1: float
    format: float


def rates(policy: Policy, world: KeyValueWorld, temperature: float = 0.0) -> Rates:
    """What a policy does with the held-out questions."""
    asked = world.held_out
    tasks = [Task(question.text, Sampling(temperature=temperature, seed=n)) for n, question in enumerate(asked)]
    done = run_rollouts(tasks, TransformersEngine(policy), Dictionary(world), PROTOCOL, BUDGETS)
    outcomes = [outcome_of(rollout, asked[number]) for number, rollout in done]
    return Rates(
        sum(bool(set(outcome.viewed) & outcome.gold) for outcome in outcomes) / len(asked),
        sum(answer_f1(outcome.answer, outcome.accepted) for outcome in outcomes) / len(asked),
        sum(not outcome.parsed.problems for outcome in outcomes) / len(asked),
    )
