"""The engine that runs a policy on a vLLM server: `vllm serve`, token ids and logprobs over its completions API.

    vllm serve MODEL --logprobs-mode processed_logprobs
    colsearcher ask "…" --index DIR --policy MODEL --engine http://localhost:8000

What the policy sampled is the ids that the server sends, one event a token; text is never tokenised again. The server's prefix
cache keeps what a conversation holds, so a turn after a search computes only the documents. The tokenizer is loaded here from
the policy's folder or hub id, and compared with the server's.

Pictures are sent where the server has vLLM's API of tokens in and tokens out, which `vllm serve --enable-scale-out` adds: ids
with one token for each image, and the images, as large as they were cut here. The server says what ids it made of them, and a
turn goes on only if they are those that the conversation has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from colsearcher.agent.engine import EngineProblem, Turn
from colsearcher.agent.http_client import EventStream, HttpClient, ServerProblem
from colsearcher.agent.http_engine import HttpEngine, HttpStream
from colsearcher.agent.pictures import PictureCutter, SeeingEngine, one_token_each
from colsearcher.agent.policy_tokenizer import PolicyTokenizer, TokenizedEngine
from colsearcher.agent.served_engine import Arrival, PrefixCache, ServedSession, Stream
from colsearcher.agent.vllm_sampling import LogprobsMode, arrival, check_mode, sampling_parameters
from colsearcher.indexes.errors import ModelProblem

_PROBE = "The colour of the sky is"
# Where two likeliest tokens are nearer than this, their distance says nothing about the temperature.
_FAR_APART = 0.02
_GENERATE = "/inference/v1/generate"


class VllmServerEngine(TokenizedEngine, SeeingEngine, HttpEngine):
    """A policy on a vLLM server.

    Args:
        tokenizer: the policy's own.
        names: any of these is the policy where the server lists its models: by the name it serves one under, or by the
            folder or hub id that it loaded.
        context: longest conversation in tokens; the server's own limit if left out.
        cutter: of a policy that sees; it is shown words where the server takes no pictures.

    Raises:
        ModelProblem: the server does not answer, serves something else, or is no vLLM that returns token ids.
    """

    def __init__(
        self,
        client: HttpClient,
        tokenizer: PolicyTokenizer,
        names: Sequence[str],
        context: int | None = None,
        cutter: PictureCutter | None = None,
    ) -> None:
        try:
            served = _served(client, names)
            version = client.get("/version")["version"]
            super().__init__(client, tokenizer.name, f"vLLM {version}, {served['id']}", served["max_model_len"])
            self.text = tokenizer
            self.model = self._base = str(served["id"])
            self.context = self.context if context is None else min(context, self.context)
            self._check_tokenizer()
            self.logprobs_mode = self._logprobs_mode()
            self.cutter = cutter if cutter and self._takes_pictures() else None
        except (ServerProblem, KeyError) as problem:
            said = f"{client.url} is no vLLM server that this engine knows: it says no {problem}."
            raise ModelProblem(said if isinstance(problem, KeyError) else f"{problem} {_START}") from problem

    def prefix_cache(self) -> PrefixCache:
        """What the server's metrics say.

        Raises:
            ServerProblem: it has none.
        """
        text = self.client.text("/metrics")
        return PrefixCache(_counter(text, "vllm:prefix_cache_queries_total"), _counter(text, "vllm:prefix_cache_hits_total"))

    def add_adapter(self, name: str, folder: Path) -> None:
        """Have the server load a LoRA adapter, from a folder that it can read. One that it has by this name stays as it is.

        Raises:
            ModelProblem: it takes none, or not this one.
        """
        try:
            self.client.text("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        except ServerProblem as problem:
            if problem.status == 400 and "already been loaded" in str(problem):
                return
            fix = f" {_ADAPTERS}" if problem.status == 404 else ""
            raise ModelProblem(f"{self.client.url} does not take the adapter in {folder}: {problem}{fix}") from problem

    def use_adapter(self, name: str | None) -> None:
        """Sample with an adapter that was added from now on, None for without one."""
        self.model = name or self._base

    def drop_adapter(self, name: str) -> None:
        """Let the server forget an adapter, if it has it."""
        with suppress(ServerProblem):
            self.client.text("/v1/unload_lora_adapter", {"lora_name": name})

    def _send(self, turn: Turn, seed: int) -> Stream:
        session, parameters = self._own(turn), sampling_parameters(turn, seed, self.never_written)
        if self.cutter and session.pictures:
            events = self.client.events(_GENERATE, self._body_with_pictures(session, self.cutter, parameters))
            said = _as_sent(events, tuple(session.tokens), self.cutter.sizes(self.context))
        else:
            events = self.client.events("/v1/completions", self._body(session.tokens, parameters) | {"stream": True})
            said = iter(events)
        stream = HttpStream(turn, events, self._arrived)
        try:
            check_mode(self.logprobs_mode, turn.sampling)
        except EngineProblem as problem:
            return stream.begin(iter([Arrival(problem=problem)]))
        return stream.begin(_arrivals(said, self.never_written))

    def _body(self, ids: Sequence[int], parameters: dict[str, Any]) -> dict[str, Any]:
        asked = {"model": self.model, "prompt": list(ids), "add_special_tokens": False, "return_token_ids": True}
        return asked | parameters

    def _body_with_pictures(self, session: ServedSession, cutter: PictureCutter, parameters: dict[str, Any]) -> dict[str, Any]:
        return {
            "model": self.model,
            "token_ids": one_token_each(session.tokens, cutter.pad, session.pictures),
            "content_parts": [{"type": "image_url", "url": picture.url} for _, picture in session.pictures],
            "sampling_params": parameters,
            "return_token_ids": True,
            "stream": True,
        }

    def _takes_pictures(self) -> bool:
        """Whether the server has the API of tokens in and tokens out, and it takes images."""
        try:
            described = self.client.get("/openapi.json")
            fields = described["components"]["schemas"]["GenerateRequest"]["properties"]
        except (ServerProblem, KeyError):
            return False
        return _GENERATE in described["paths"] and {"content_parts", "return_token_ids"} <= set(fields)

    def _check_tokenizer(self) -> None:
        body = {"model": self.model, "prompt": _PROBE, "add_special_tokens": False}
        if self.client.post("/tokenize", body)["tokens"] != self.encode(_PROBE):
            raise ModelProblem(
                f"{self.client.url} serves {self.model}, whose tokenizer is not that of {self.name}. "
                "Give --policy the folder or hub id that the server serves."
            )

    def _logprobs_mode(self) -> LogprobsMode:
        """Found out by asking for the two likeliest tokens at temperature 1 and at a quarter of it: their logprobs lie four
        times as far apart if the server reports those of the distribution that it samples from.
        """
        ids = self.encode(_PROBE)
        for length in range(len(ids), 0, -1):
            whole, quarter = (self._distance(ids[:length], temperature) for temperature in (1.0, 0.25))
            if whole > _FAR_APART:
                return "processed_logprobs" if quarter > 2 * whole else "raw_logprobs"
        return "raw_logprobs"

    def _distance(self, ids: Sequence[int], temperature: float) -> float:
        parameters = {"max_tokens": 1, "logprobs": 2, "temperature": temperature, "top_p": 1.0, "top_k": 0, "seed": 0}
        body = self._body(ids, parameters | {"return_tokens_as_token_ids": True})
        choice = self.client.post("/v1/completions", body)["choices"][0]
        if not choice.get("token_ids"):
            raise ModelProblem(f"{self.client.url} returns no token ids. Serve the policy with vLLM 0.10.2 or newer.")
        best, second = sorted(choice["logprobs"]["top_logprobs"][0].values(), reverse=True)[:2]
        return best - second


_START = "Start one with `vllm serve MODEL --logprobs-mode processed_logprobs` and give --engine its address."
_ADAPTERS = (
    "Start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment, as `vllm serve MODEL --enable-lora "
    "--max-lora-rank 16 --logprobs-mode processed_logprobs`, on a file system that both see."
)


def _served(client: HttpClient, names: Sequence[str]) -> dict[str, Any]:
    """The entry of the policy in the server's list of models."""
    models = client.get("/v1/models")["data"]
    wanted = {*names, *(str(Path(name).resolve()) for name in names)}
    for model in models:
        if wanted & {model["id"], str(model.get("root"))}:
            return model
    listed = ", ".join(model["id"] for model in models)
    raise ModelProblem(
        f"{client.url} serves {listed}, not {names[-1]}. Give --policy the model that it serves, or serve that one."
    )


def _as_sent(events: EventStream, ids: tuple[int, ...], sizes: dict[str, int]) -> Iterator[dict[str, Any]]:
    """The events of a turn with pictures, if the server has made of them what stands in the conversation.

    Raises:
        EngineProblem: it has not.
    """
    for number, event in enumerate(events):
        if number == 0 and tuple(event.get("prompt_token_ids") or ()) != ids:
            raise EngineProblem(
                "The vLLM server draws pictures in another size than they are shown in. Start it with "
                f"--mm-processor-kwargs '{json.dumps({'size': sizes})}'."
            )
        yield event


def _arrivals(events: Iterable[dict[str, Any]], never: Sequence[int]) -> Iterator[Arrival]:
    """What the events of a turn say, of either API. An event may bring several tokens, and the first may bring none."""
    for event in events:
        for choice in event.get("choices", ()):
            ids, said = choice.get("token_ids") or (), choice.get("logprobs") or {}
            logprobs = said.get("token_logprobs") or [token["logprob"] for token in said.get("content") or ()]
            if len(ids) != len(logprobs):
                raise EngineProblem(f"vLLM sent {len(ids)} tokens with {len(logprobs)} logprobs.")
            tokens = tuple(zip(ids, logprobs, strict=True))
            yield arrival(tokens, choice.get("finish_reason"), choice.get("stop_reason"), never)


def _counter(metrics: str, name: str) -> int:
    """The sum over the engines of a server, in Prometheus' text format."""
    values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", metrics, re.MULTILINE)
    if not values:
        raise ServerProblem(f"The server's metrics have no {name}.")
    return round(sum(map(float, values)))
