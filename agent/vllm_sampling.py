"""How vLLM is asked to sample, in this process and over HTTP alike, and what its logprobs mean.

vLLM reports logprobs of one of two distributions, chosen for all requests when it starts (`--logprobs-mode`):
`raw_logprobs`, its default, of the softmax at temperature 1, and `processed_logprobs`, of the softmax at the temperature of
the request, after `top_p` has cut it. A `Generation` holds those of the full softmax at the temperature (1 when greedy), so
each mode is right for some turns only, and a turn that it is wrong for is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from colsearcher.agent.engine import EngineProblem, Sampling, StopReason, Turn
from colsearcher.agent.served_engine import Arrival

LogprobsMode = Literal["raw_logprobs", "processed_logprobs"]


def sampling_parameters(turn: Turn, seed: int, never: Sequence[int] = ()) -> dict[str, Any]:
    """The names are those of vLLM's `SamplingParams` and of its completions API.

    To take a token out of the distribution would change the logprobs of all others: to sample one that must `never` be ends
    the turn, see `arrival`.

    What a model's `generation_config` would change (top_k, a repetition penalty) is set to nothing: it would make another
    distribution of what the policy says.
    """
    sampling = turn.sampling
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "seed": seed,
        "max_tokens": min(sampling.max_tokens, turn.session.room),
        "logprobs": 0,
        "stop": list(turn.stop),
        "stop_token_ids": list(never),
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


def check_mode(mode: LogprobsMode, sampling: Sampling) -> None:
    """Refuse a turn whose logprobs would be of another distribution than a `Generation` promises.

    Raises:
        EngineProblem: they would.
    """
    greedy = sampling.temperature == 0
    if mode == "raw_logprobs" and not greedy and sampling.temperature != 1:
        raise EngineProblem(
            f"This vLLM server reports logprobs at temperature 1, not at {sampling.temperature:g}. "
            "Start it with --logprobs-mode processed_logprobs, or use a temperature of 0 or 1."
        )
    if mode == "processed_logprobs" and not greedy and sampling.top_p != 1:
        raise EngineProblem(
            f"This vLLM reports logprobs after top_p {sampling.top_p:g} has cut the distribution. "
            "Use top_p 1, or a server with --logprobs-mode raw_logprobs and temperature 1."
        )


def arrival(
    tokens: tuple[tuple[int, float], ...], finish: str | None, stop_reason: str | int | None = None, never: Sequence[int] = ()
) -> Arrival:
    """What vLLM says of a turn. Its «stop» means a stop string if it names one, and the end of the message otherwise."""
    if tokens and tokens[-1][0] in never:
        return Arrival(tokens[:-1], problem=EngineProblem("The policy wrote a token that stands for a part of a picture."))
    if finish is None:
        return Arrival(tokens)
    if finish == "stop":
        matched = stop_reason if isinstance(stop_reason, str) else None
        return Arrival(tokens, StopReason.EOS if matched is None else StopReason.STOP_STRING, matched)
    if finish == "length":
        return Arrival(tokens, StopReason.TOKEN_BUDGET)
    return Arrival(tokens, problem=EngineProblem(f"vLLM ended the turn with «{finish}»."))
