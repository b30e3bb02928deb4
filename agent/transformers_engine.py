"""The engine that runs a policy with transformers in this process, one conversation at a time.

The key-value cache lives as long as the session: after a search only the documents are computed, not the conversation
again. Left out: batching (`StopReason` and `Session` are the same for the engines that batch) and images.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from colsearcher.agent.engine import (
    EngineProblem,
    Generation,
    Interrupt,
    Message,
    OnToken,
    Sampling,
    StopReason,
    StopStrings,
    never,
)
from colsearcher.indexes.errors import ModelProblem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from colsearcher.agent.policy import Policy

# Private-use characters: they stand for a message's content while the chat template is rendered.
_SLOT = "\ue0f0{}\ue0f1"


class TransformersEngine:
    """A loaded policy as an `Engine`.

    Args:
        policy: from `load_policy`.
        context: longest conversation in tokens; the model's own limit if left out.
    """

    def __init__(self, policy: Policy, context: int | None = None) -> None:
        self.name = policy.name
        self.revision = policy.revision
        self.model: PreTrainedModel = policy.model
        self.tokenizer: PreTrainedTokenizerBase = policy.tokenizer
        limit = int(self.model.config.get_text_config().max_position_embeddings)
        self.context = limit if context is None else min(context, limit)
        self.eos_ids = _eos_ids(self.model, self.tokenizer)
        self._last_prompt: tuple[list[int], DynamicCache] = ([], DynamicCache(config=self.model.config))

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        slots = [{**message, "content": _SLOT.format(number)} for number, message in enumerate(messages)]
        rest = str(self.tokenizer.apply_chat_template(slots, add_generation_prompt=True, tokenize=False))
        ids: list[int] = []
        for slot, message in zip(slots, messages, strict=True):
            before, found, rest = rest.partition(slot["content"])
            if not found:
                raise ModelProblem(
                    f"The chat template of {self.name} has no place for a {message['role']} message. "
                    "Choose an instruction-tuned policy with a plain chat template."
                )
            ids += self.tokenizer.encode(before, add_special_tokens=False) + self.encode(message["content"])
        return ids + self.tokenizer.encode(rest, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def start(self, prompt_ids: Sequence[int]) -> TransformersSession:
        if not prompt_ids or len(prompt_ids) >= self.context:
            raise EngineProblem(
                f"The prompt has {len(prompt_ids)} tokens; {self.name} takes 1 to {self.context - 1}. Shorten the question."
            )
        return TransformersSession(self, prompt_ids)

    def shared_prefix(self, prompt_ids: Sequence[int]) -> tuple[int, DynamicCache]:
        """How many tokens `prompt_ids` shares with the last prompt, and a copy of their cached keys and values.

        System message and worked examples are the same for every question, and a group of rollouts shares its whole prompt.
        """
        last_ids, last_cache = self._last_prompt
        pairs = zip(last_ids, prompt_ids, strict=False)
        shared = next((place for place, (old, new) in enumerate(pairs) if old != new), min(len(last_ids), len(prompt_ids)))
        shared = min(shared, len(prompt_ids) - 1)  # the last token has to be computed: its logits are wanted
        cache = copy.deepcopy(last_cache)
        _cut(cache, shared)
        return shared, cache

    def keep_prompt(self, prompt_ids: Sequence[int], cache: DynamicCache) -> None:
        """Remember a computed prompt for `shared_prefix`."""
        kept = copy.deepcopy(cache)
        _cut(kept, len(prompt_ids))
        self._last_prompt = (list(prompt_ids), kept)


class TransformersSession:
    """One conversation. Tokens wait in `_pending` until the next `generate` computes them all in one forward pass."""

    def __init__(self, engine: TransformersEngine, prompt_ids: Sequence[int]) -> None:
        self._engine = engine
        self._ids = list(prompt_ids)
        self._prompt_length = len(self._ids)
        self._computed, self._cache = engine.shared_prefix(prompt_ids)  # how many of `_ids` are in the cache, the cache
        self._generator: torch.Generator | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self._ids)

    @property
    def room(self) -> int:
        return self._engine.context - len(self._ids)

    def append(self, ids: Sequence[int]) -> None:
        if len(ids) > self.room:
            raise ValueError(f"{len(ids)} tokens do not fit, there is room for {self.room}")
        self._ids += ids

    def generate(
        self,
        sampling: Sampling,
        *,
        stop: Sequence[str] = (),
        on_token: OnToken | None = None,
        interrupt: Interrupt = never,
    ) -> Generation:
        ids: list[int] = []
        logprobs: list[float] = []
        stops = StopStrings(stop, self._engine.decode)
        while True:
            if reason := interrupt():
                return Generation(tuple(ids), tuple(logprobs), reason)
            if len(ids) >= sampling.max_tokens:
                return Generation(tuple(ids), tuple(logprobs), StopReason.TOKEN_BUDGET)
            if self.room <= 0:
                return Generation(tuple(ids), tuple(logprobs), StopReason.CONTEXT_FULL)
            token, logprob = self._pick(self._logits_V(), sampling)
            self._ids.append(token)
            ids.append(token)
            logprobs.append(logprob)
            if on_token is not None:
                on_token(token, logprob)
            if token in self._engine.eos_ids:
                return Generation(tuple(ids), tuple(logprobs), StopReason.EOS)
            if matched := stops.push(token):
                return Generation(tuple(ids), tuple(logprobs), StopReason.STOP_STRING, matched)

    @torch.inference_mode()
    def _logits_V(self) -> torch.Tensor:
        """Scores of the next token, fp32 on the CPU, over the vocabulary."""
        pending = torch.tensor([self._ids[self._computed :]], device=self._engine.model.device)
        try:
            output = self._engine.model(pending, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        except RuntimeError as problem:
            first = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
            raise EngineProblem(f"{self._engine.name} failed after {len(self._ids)} tokens: {first}") from problem
        if self._computed < self._prompt_length:
            self._engine.keep_prompt(self._ids[: self._prompt_length], self._cache)
        self._computed = len(self._ids)
        return output.logits[0, -1].float().cpu()

    def _pick(self, logits_V: torch.Tensor, sampling: Sampling) -> tuple[int, float]:
        logprobs_V = torch.log_softmax(logits_V / (sampling.temperature or 1.0), dim=-1)
        if sampling.temperature == 0:
            token = int(logprobs_V.argmax())
        else:
            if self._generator is None:
                self._generator = torch.Generator().manual_seed(sampling.seed)
            probs_V = _nucleus(logprobs_V.exp(), sampling.top_p)
            token = int(torch.multinomial(probs_V, 1, generator=self._generator))
        return token, float(logprobs_V[token])


def _nucleus(probs_V: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the fewest likeliest tokens whose probabilities reach `top_p` (Holtzman et al., 2020); not renormalised."""
    if top_p == 1:
        return probs_V
    sorted_V, order_V = probs_V.sort(descending=True)
    before_V = sorted_V.cumsum(-1) - sorted_V
    return probs_V.index_fill(0, order_V[before_V >= top_p], 0.0)


def _cut(cache: DynamicCache, length: int) -> None:
    """Keep the first `length` positions."""
    if (extra := cache.get_seq_length() - length) > 0:
        cache.crop(-extra)


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokenizer's end of message and all that the generation config lists."""
    listed = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = listed if isinstance(listed, list) else [listed]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)
