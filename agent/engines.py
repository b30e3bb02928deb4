"""A policy by name and the engine by name that runs it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from colsearcher.agent.embedded_policy import DEFAULT, EMBEDDED
from colsearcher.agent.engine import ENGINES
from colsearcher.agent.policy import Device, load_policy, picture_cutter, policy_source, policy_title
from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    from colsearcher.agent.engine import Engine
    from colsearcher.agent.policy_tokenizer import PolicyTokenizer


@dataclass(frozen=True)
class LoadedEngine:
    """An engine, and one line about it for stderr."""

    engine: Engine
    told: str


def load_engine(
    policy: str = DEFAULT,
    engine: str = "transformers",
    *,
    device: Device = "auto",
    local: bool = False,
    context: int | None = None,
    adapter_rank: int = 0,
) -> LoadedEngine:
    """Make a policy ready to run.

    Args:
        policy: see `load_policy`. With an HTTP engine of vLLM it names what the server serves, and its
            tokenizer is loaded here; `openai:` names its model itself and does not look at it.
        engine: `transformers` (in this process), `vllm` (in this process, the `gpu` extra), `http://host:port` (a vLLM
            server; a key, if it asks for one, comes from VLLM_API_KEY), or `openai:MODEL@https://host/v1` (a chat API; the key
            comes from OPENAI_API_KEY), with `?sees` behind it for a policy that is shown pictures.
        device: for transformers.
        local: never ask the hub.
        context: longest conversation in tokens; the model's or server's own limit if left out.
        adapter_rank: for vllm in this process: adapters of up to this rank will be handed to it while others train on the same
            device; 0 for none.

    Raises:
        UserError: there is no such engine.
        ModelProblem: the policy cannot be loaded, or the server does not serve it.
        MissingExtra: vLLM is not installed.
    """
    offline = local or policy in EMBEDDED
    if engine == "transformers":
        from colsearcher.agent.transformers_engine import TransformersEngine

        loaded = load_policy(policy, device=device, local=local)
        return LoadedEngine(TransformersEngine(loaded, context), loaded.describe())
    if engine == "vllm":
        from colsearcher.agent.vllm_engine import VllmEngine

        tokenizer, source = _tokenizer(policy, offline), policy_source(policy)
        cutter = picture_cutter(source, offline=offline)
        in_process = VllmEngine(tokenizer, source, context, adapter_rank=adapter_rank, cutter=cutter)
        return LoadedEngine(in_process, f"policy {in_process.name} in {in_process.revision}, in this process")
    if engine.startswith(("http://", "https://")):
        from colsearcher.agent.http_client import HttpClient
        from colsearcher.agent.vllm_server import VllmServerEngine

        client = HttpClient(engine, os.environ.get("VLLM_API_KEY"))
        names = (policy_source(policy), policy_title(policy), policy)
        cutter = picture_cutter(names[0], offline=offline)
        served = VllmServerEngine(client, _tokenizer(policy, offline), names, context, cutter)
        told = f"policy {served.name} at {client.url} ({served.revision}, {served.logprobs_mode})"
        if cutter:
            how = (
                "sees pages"
                if served.sees
                else "shown words; a server started with --enable-scale-out (vLLM 0.31) is shown pages"
            )
            told = f"{told}, {how}"
        return LoadedEngine(served, told)
    if engine.startswith("openai:"):
        from colsearcher.agent.chat_engine import ChatEngine
        from colsearcher.agent.http_client import HttpClient

        model, found, place = engine.removeprefix("openai:").rpartition("@")
        url, asks, option = place.partition("?")
        if not found or not model:
            raise UserError(f"«{engine}» names no model or no address; write it as openai:MODEL@https://host/v1.")
        if asks and option != "sees":
            raise UserError(f"«?{option}» is nothing that can be said of a policy; ?sees is: it is shown pictures of pages.")
        hosted = ChatEngine(HttpClient(url, os.environ.get("OPENAI_API_KEY")), model, context, sees=bool(asks))
        sees = ", sees pages" if hosted.sees else ""
        return LoadedEngine(hosted, f"policy {hosted.name}{sees} at {hosted.client.url}: not exact, for asking only")
    raise UserError(f"There is no engine «{engine}»; choose {ENGINES}.")


def _tokenizer(policy: str, offline: bool) -> PolicyTokenizer:
    from colsearcher.agent.policy_tokenizer import load_tokenizer

    return load_tokenizer(policy_title(policy), policy_source(policy), offline=offline)
