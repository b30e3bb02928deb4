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

import torch

from colsearcher.agent.policy import Policy
from colsearcher.agent.protocol import ANSWER, BEGIN_QUERY, END_ANSWER, END_QUERY, END_THINK, TAGS, Protocol
from colsearcher.agent.record import Budgets
from colsearcher.agent.retriever import Passage
from colsearcher.indexes.address import Address
from colsearcher.training.question import Question

PROTOCOL = Protocol(variant="reasoning", system="Look it up.")
BUDGETS = Budgets(total_tokens=160, turn_tokens=24, searches=2, documents=1, document_tokens=40)

_SYLLABLES = [onset + vowel for onset in "bdfklmrt" for vowel in "aio"]
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


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
    it, or guesses.

    Args:
        searches: how often it searches at all.
        reads: how often, when it has searched, it answers what it read; otherwise it guesses.
    """

    def __init__(self, question: Question, rng: random.Random, searches: float, reads: float) -> None:
        self._question, self._rng = question, rng
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
            return f"{asked} {BEGIN_QUERY} {asked} {END_QUERY}"
        read = self._searched and self._will_read
        answer = self._question.answers[0] if read else self._rng.choice(_SYLLABLES)
        return f"{asked} {END_THINK}\n{ANSWER} {answer} {END_ANSWER}"


def learn_to_repeat(policy: Policy, steps: int = 200, seed: int = 0) -> float:
    """What any pretrained model brings along: to go on with what has been said before. Learned here from random syllables that
    are said twice. Returns the last loss of what is said the second time, in nats a token."""
    tokens = torch.tensor([policy.tokenizer.convert_tokens_to_ids(syllable) for syllable in _SYLLABLES])
    random_numbers = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=2e-3)
    policy.model.train()
    loss = torch.zeros(())
    for _ in range(steps):
        said = tokens[torch.randint(len(tokens), (32, 20), generator=random_numbers)]
        logits = policy.model(torch.cat([said, said], 1)).logits[:, 20:-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), said[:, 1:].flatten())
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

    words = ["Look", "it", "up", "What", "is", "the", "code", "of", "system", "user", "assistant"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<|im_start|>", "<|im_end|>", *alphabet])}
    bytes_ = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=_TEMPLATE
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in TAGS])
    tokenizer.add_tokens([AddedToken(word, single_word=True, special=False) for word in words])
    tokenizer.add_tokens([AddedToken(syllable, special=False) for syllable in _SYLLABLES])
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
