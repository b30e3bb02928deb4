"""The engine that runs a policy with transformers in this process, many conversations at a time.

Every turn that is being worked on gets its next token in one forward pass, whatever the lengths. Keys and values live as long
as the session: after a search only the documents are computed, not the conversation again, and what a prompt begins with
(system message and examples, or the whole prompt of a group of rollouts) is computed once. Page images go in
the middle of a conversation like any other tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from colsearcher.agent.engine import EngineProblem, StopReason, StopStrings, Turn, check_prompt
from colsearcher.agent.pictures import CutPicture, Picture, SeeingEngine, model_inputs, places_of, positions
from colsearcher.agent.policy_tokenizer import PolicyTokenizer, TokenizedEngine
from colsearcher.agent.slot_attention import attending, serves
from colsearcher.agent.slot_cache import SlotCache
from colsearcher.indexes.errors import ModelProblem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from colsearcher.agent.policy import Policy

# Tokens of one forward pass, so that many long prompts do not meet in one.
_PASS_TOKENS = 16_384


class TransformersEngine(TokenizedEngine, SeeingEngine):
    """A loaded policy as an `Engine`.

    Args:
        policy: from `load_policy`.
        context: longest conversation in tokens; the model's own limit if left out.
    """

    exact = True

    def __init__(self, policy: Policy, context: int | None = None) -> None:
        self.name = policy.name
        self.revision = policy.revision
        self.model: PreTrainedModel = policy.model
        self.tokenizer: PreTrainedTokenizerBase = policy.tokenizer
        self.text = PolicyTokenizer(policy.name, policy.tokenizer)
        limit = int(self.model.config.get_text_config().max_position_embeddings)
        self.context = limit if context is None else min(context, limit)
        self.eos_ids = _eos_ids(self.model, self.tokenizer)
        self._window = _window_of(self.model, self.name)
        self._cache = SlotCache(int(self.model.config.get_text_config().num_hidden_layers))
        self._slots: list[_Slot] = []
        self.cutter = policy.cutter

    def start(self, prompt_ids: Sequence[int]) -> TransformersSession:
        check_prompt(self.name, prompt_ids, self.context)
        return TransformersSession(self, prompt_ids)

    def work(self, turns: Sequence[Turn]) -> None:
        while not any(turn.ended for turn in turns):
            going = {self._own(turn): turn for turn in turns if turn.may_go_on()}
            fresh = [session for session in going if session.slot is None]
            # What the first of them computes of the prompt the others need not compute again.
            for first_or_rest in (fresh[:1], fresh[1:]):
                for session in first_or_rest:
                    self._settle(session)
                self._continue(first_or_rest, going)
            begun = [session for session in going if session not in fresh]
            resumed = [session for session in begun if session.uncomputed > 1]
            self._continue(resumed, going)
            self._continue([session for session in begun if session not in resumed], going)

    def _own(self, turn: Turn) -> TransformersSession:
        assert isinstance(turn.session, TransformersSession)
        return turn.session

    def _settle(self, session: TransformersSession) -> None:
        """Give a session a slot, with what another slot holds of the beginning of its prompt."""
        shared, source = max(
            ((_common(slot.tokens, session.marks), number) for number, slot in enumerate(self._slots)), default=(0, 0)
        )
        # The last token has to be computed, for its logits are wanted, and a picture is computed whole.
        shared = session.before_picture(min(shared, len(session.tokens) - 1))
        if shared and not self._slots[source].taken:
            number = source
        else:
            free = [number for number, slot in enumerate(self._slots) if not slot.taken]
            number = min(free, key=lambda number: len(self._slots[number].tokens), default=len(self._slots))
            if number == len(self._slots):
                self._slots.append(_Slot())
            self._cache.share(source, number, shared)
        slot = self._slots[number]
        slot.tokens, slot.taken, session.slot = session.marks[:shared], True, number

    def forget(self) -> None:
        """Drop all that is computed: the weights have changed. No conversation may be open.

        Raises:
            ValueError: one is.
        """
        if any(slot.taken for slot in self._slots):
            raise ValueError("a conversation is open; close it before its model changes")
        self._slots.clear()

    def free(self, slot: int) -> None:
        """Let another session have a slot; what it holds is kept for prompts that begin alike until then."""
        self._slots[slot].taken = False

    def computed(self, slot: int) -> int:
        """How many tokens a slot holds."""
        return len(self._slots[slot].tokens)

    def _continue(self, sessions: Sequence[TransformersSession], turns: Mapping[TransformersSession, Turn]) -> None:
        """One more token for each."""
        for batch in _batches(sorted(sessions, key=lambda session: session.uncomputed)):
            batch.sort(key=lambda session: session.slot or 0)
            try:
                logits_R_V = self._logits_R_V(batch)
            except torch.OutOfMemoryError as problem:
                if len(batch) == 1:
                    turns[batch[0]].failure = self._failed(batch[0], problem)
                    continue
                half = len(batch) // 2
                self._continue(batch[:half], turns)
                self._continue(batch[half:], turns)
            except RuntimeError as problem:
                for session in batch:
                    turns[session].failure = self._failed(session, problem)
            else:
                asked = [turns[session] for session in batch]
                for turn, picked in zip(asked, _picked(logits_R_V, asked, self.never_written), strict=True):
                    self._own(turn).take(turn, *picked)

    @torch.inference_mode()
    def _logits_R_V(self, sessions: Sequence[TransformersSession]) -> torch.Tensor:
        """(R, V) float32: the scores of each session's next token, all that it has not computed yet being computed."""
        slots = [session.slot or 0 for session in sessions]
        new = [session.tokens[-session.uncomputed :] for session in sessions]
        device = self.model.device
        seen = [picture for session in sessions for picture in session.waiting_pictures()]
        pixels = {name: own.to(device) for name, own in model_inputs(seen).items()} if seen else {}
        config = self.model.config.get_text_config()
        own = serves(config)
        before = [self.computed(slot) for slot in slots]
        step = self._cache.plan(slots, before, [len(ids) for ids in new], device, between=own)
        width = max(len(ids) for ids in new)
        padded = torch.tensor([[0] * (width - len(ids)) + ids for ids in new], device=device)
        mask = self._mask(step.seen_S_1_N_K)
        with attending(config, step) if own else nullcontext():
            output = self.model(
                padded,
                attention_mask=mask,
                position_ids=step.positions_R_N if self.cutter is None else _three_positions(sessions, width).to(device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
                **pixels,
            )
        for slot, session in zip(slots, sessions, strict=True):
            self._slots[slot].tokens += session.marks[-session.uncomputed :]
        return output.logits[:, -1].float()

    def _mask(self, seen_S_1_N_K: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """What the model's attention takes as a mask, for each kind of its layers if there are two."""
        if self._window is None:
            return self._as_added(seen_S_1_N_K)
        # A token's own place is the last that it may look at.
        own_S_1_N_1 = seen_S_1_N_K.sum(-1, keepdim=True) - 1
        place_K = torch.arange(seen_S_1_N_K.shape[-1], device=seen_S_1_N_K.device)
        near = self._as_added(seen_S_1_N_K & (place_K > own_S_1_N_1 - self._window.tokens))
        return near if self._window.everywhere else {"full_attention": self._as_added(seen_S_1_N_K), "sliding_attention": near}

    def _as_added(self, seen: torch.Tensor) -> torch.Tensor:
        if self.model.config.get_text_config()._attn_implementation == "sdpa":
            return seen
        dtype = self.model.dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)

    def _failed(self, session: TransformersSession, problem: Exception) -> EngineProblem:
        first = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        return EngineProblem(f"{self.name} failed after {len(session.ids)} tokens: {first}")


@dataclass
class _Slot:
    """What a slot of the cache holds: keys and values of `tokens`, those of pictures as the marks of their session."""

    tokens: list[int | str] = field(default_factory=list)
    taken: bool = False


@dataclass(frozen=True)
class _Window:
    """Attention that looks back so many tokens, in all layers or in those that the configuration calls sliding."""

    tokens: int
    everywhere: bool


class TransformersSession:
    """One conversation. Tokens wait in `tokens` until the engine computes them all in one forward pass.

    Attributes:
        marks: the tokens, with those of a picture told apart by what it shows.
        places: the position of each token; see `pictures.positions`.
    """

    def __init__(self, engine: TransformersEngine, prompt_ids: Sequence[int]) -> None:
        self._engine = engine
        self.tokens = list(prompt_ids)
        self.marks: list[int | str] = list(prompt_ids)
        self.places, self._following = positions(self.tokens, None, [])
        self._pictures: list[tuple[int, CutPicture]] = []  # and where the tokens of each begin
        self.slot: int | None = None
        self.random: torch.Generator | None = None
        self._stops: tuple[Turn, StopStrings] | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self.tokens)

    @property
    def room(self) -> int:
        return self._engine.context - len(self.tokens)

    @property
    def uncomputed(self) -> int:
        return len(self.tokens) - (0 if self.slot is None else self._engine.computed(self.slot))

    def append(self, ids: Sequence[int], pictures: Sequence[Picture] = ()) -> None:
        if len(ids) > self.room:
            raise ValueError(f"{len(ids)} tokens do not fit, there is room for {self.room}")
        marks: list[int | str] = list(ids)
        for at, picture in zip(places_of(ids, self._engine.pad_token, pictures), pictures, strict=True):
            assert isinstance(picture, CutPicture)
            self._pictures.append((len(self.tokens) + at, picture))
            marks[at : at + picture.tokens] = [picture.digest] * picture.tokens
        places, self._following = positions(ids, self._engine.pad_token, [p.grid for p in pictures], self._following)
        self.tokens += ids
        self.marks += marks
        self.places += places

    def waiting_pictures(self) -> list[CutPicture]:
        """Those that are not computed yet."""
        computed = len(self.tokens) - self.uncomputed
        return [picture for at, picture in self._pictures if at >= computed]

    def before_picture(self, place: int) -> int:
        """The place itself, or where the picture begins that it lies in."""
        return next((at for at, picture in self._pictures if at < place < at + picture.tokens), place)

    def close(self) -> None:
        if self.slot is not None:
            self._engine.free(self.slot)
            self.slot = None

    def take(self, turn: Turn, token: int, logprob: float, entropy: float) -> None:
        """Add a sampled token, and end the turn where it is the last."""
        if self._stops is None or self._stops[0] is not turn:
            self._stops = turn, StopStrings(turn.stop, self._engine.decode)
        self.tokens.append(token)
        self.marks.append(token)
        self.places.append((self._following,) * 3)
        self._following += 1
        turn.add(token, logprob, entropy)
        if token in self._engine.eos_ids:
            turn.end(StopReason.EOS)
        elif matched := self._stops[1].push(token):
            turn.end(StopReason.STOP_STRING, matched)


def _three_positions(sessions: Sequence[TransformersSession], width: int) -> torch.Tensor:
    """(3, R, N) positions of what each session has not computed yet, 0 for padding in front of it."""
    places_3_R_N = torch.zeros(3, len(sessions), width, dtype=torch.long)
    for row, session in enumerate(sessions):
        new = session.places[-session.uncomputed :]
        places_3_R_N[:, row, width - len(new) :] = torch.tensor(new).T
    return places_3_R_N


def _batches(sessions: Sequence[TransformersSession]) -> list[list[TransformersSession]]:
    """Sessions, those with fewest new tokens first, in batches of at most `_PASS_TOKENS` with padding."""
    batches: list[list[TransformersSession]] = []
    for session in sessions:
        if not batches or (len(batches[-1]) + 1) * session.uncomputed > _PASS_TOKENS:
            batches.append([])
        batches[-1].append(session)
    return batches


def _picked(logits_R_V: torch.Tensor, turns: Sequence[Turn], never: Sequence[int] = ()) -> list[tuple[int, float, float]]:
    """For each turn its next token, that token's logprob under the full softmax, and the softmax's entropy.

    Args:
        never: tokens that are not picked, however likely.
    """
    temperatures = [turn.sampling.temperature for turn in turns]
    scale_R_1 = torch.tensor([[t or 1.0] for t in temperatures], device=logits_R_V.device)
    # The highest is 0 before it is divided, by how little it may be.
    scaled_R_V = (logits_R_V - logits_R_V.amax(-1, keepdim=True)) / scale_R_1.clamp(min=torch.finfo(torch.float32).tiny)
    logprobs_R_V = torch.log_softmax(scaled_R_V, dim=-1)
    allowed_R_V = logprobs_R_V.index_fill(1, torch.tensor(never, device=logits_R_V.device, dtype=torch.long), -torch.inf)
    tokens_R = allowed_R_V.argmax(-1)
    for row, turn in enumerate(turns):
        if turn.sampling.temperature > 0:
            # A uniform number of the session's own, looked up among the cumulated probabilities: the same on every device.
            probs_V = _nucleus(allowed_R_V[row].double().exp(), turn.sampling.top_p).cumsum(-1)
            drawn = _uniform(turn) * probs_V[-1]
            tokens_R[row] = torch.searchsorted(probs_V, drawn, right=True).clamp(max=len(probs_V) - 1)
    chosen_R = logprobs_R_V.gather(1, tokens_R[:, None])[:, 0]
    entropies_R = -(logprobs_R_V.exp() * logprobs_R_V.clamp(min=torch.finfo(torch.float32).min)).sum(-1)
    return list(zip(tokens_R.tolist(), chosen_R.tolist(), entropies_R.tolist(), strict=True))


def _uniform(turn: Turn) -> float:
    session = turn.session
    assert isinstance(session, TransformersSession)
    if session.random is None:
        session.random = torch.Generator().manual_seed(turn.sampling.seed)
    return float(torch.rand((), generator=session.random, dtype=torch.float64))


def _common(a: Sequence[int | str], b: Sequence[int | str]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = zip(a, b, strict=False)
    return next((place for place, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


def _window_of(model: PreTrainedModel, name: str) -> _Window | None:
    """How the model's layers look back, None where all see everything.

    Raises:
        ModelProblem: it has layers that keep a state instead of keys and values.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    width = getattr(config, "sliding_window", None)
    if other := kinds - {"full_attention", "sliding_attention"}:
        raise ModelProblem(
            f"{name} has layers of {', '.join(sorted(other))}, whose state cannot wait for documents here; serve it with vLLM "
            "and name the server with --engine."
        )
    if not width or kinds == {"full_attention"}:
        return None
    return _Window(int(width), everywhere="full_attention" not in kinds)


def _nucleus(probs_V: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the fewest likeliest tokens whose probabilities reach `top_p` (Holtzman et al., 2020); not renormalised."""
    if top_p == 1:
        return probs_V
    sorted_V, order_V = probs_V.sort(descending=True)
    before_V = sorted_V.cumsum(-1) - sorted_V
    return probs_V.index_fill(0, order_V[before_V >= top_p], 0.0)


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokenizer's end of message and all that the generation config lists."""
    listed = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = listed if isinstance(listed, list) else [listed]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)
