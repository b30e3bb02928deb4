"""The engine that runs a policy with vLLM in this process: its own loop, stepped from here.

vLLM's prefix cache keeps what a conversation holds, so a turn after a search computes only the documents. Pictures go to it as
large as they are cut here, so that what it makes of them is what `transformers_engine` sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colsearcher.agent.engine import EngineProblem, Turn
from colsearcher.agent.pictures import PictureCutter, SeeingEngine, one_token_each
from colsearcher.agent.policy_tokenizer import PolicyTokenizer, TokenizedEngine
from colsearcher.agent.served_engine import Arrival, PrefixCache, ServedEngine, ServedSession, Stream
from colsearcher.agent.vllm_sampling import LogprobsMode, arrival, check_mode, sampling_parameters
from colsearcher.indexes.errors import MissingExtra, ModelProblem

if TYPE_CHECKING:
    from vllm import LLMEngine
    from vllm.lora.request import LoRARequest

# Of the graphics card's memory; the rest is for the embedder of the pages, or for training.
_MEMORY_SHARE, _MEMORY_SHARE_TRAINING = 0.8, 0.3


class _StepStream(Stream):
    """A turn that vLLM has under a name."""

    def __init__(self, turn: Turn, engine: VllmEngine, name: str) -> None:
        super().__init__(turn)
        self.name = name
        self._engine = engine

    def call_off(self) -> None:
        self._engine.call_off(self.name)


class VllmEngine(TokenizedEngine, SeeingEngine, ServedEngine):
    """A policy in vLLM.

    Args:
        tokenizer: the policy's own.
        source: its folder or hub id.
        context: longest conversation in tokens; the model's own limit if left out.
        dtype: of weights and arithmetic, as vLLM calls it.
        logprobs_mode: see `vllm_sampling`; the one given is right for every temperature with `top_p` 1.
        eager: without vLLM's compilation, which takes a minute or more at the start.
        cutter: of a policy that sees.
        adapter_rank: adapters of up to this rank can be added; vLLM then leaves most of the memory to their training.

    Raises:
        MissingExtra: vLLM is not installed.
        ModelProblem: vLLM cannot load the policy.
    """

    def __init__(
        self,
        tokenizer: PolicyTokenizer,
        source: str,
        context: int | None = None,
        *,
        dtype: str = "auto",
        logprobs_mode: LogprobsMode = "processed_logprobs",
        eager: bool = False,
        adapter_rank: int = 0,
        cutter: PictureCutter | None = None,
    ) -> None:
        try:
            from vllm import EngineArgs, LLMEngine
        except ImportError as problem:
            raise MissingExtra(
                f"vLLM is not installed here ({problem}). Install the extra: `uv pip install 'colsearcher[gpu]'`, or serve the "
                "policy elsewhere and give --engine the server's address."
            ) from problem
        arguments = EngineArgs(
            model=source,
            dtype=dtype,
            max_model_len=context,
            enable_prefix_caching=True,
            logprobs_mode=logprobs_mode,
            enforce_eager=eager,
            gpu_memory_utilization=_MEMORY_SHARE_TRAINING if adapter_rank else _MEMORY_SHARE,
            **({"limit_mm_per_prompt": {"video": 0}} if cutter else {}),
            **({"enable_lora": True, "max_loras": 1, "max_lora_rank": _vllm_rank(adapter_rank)} if adapter_rank else {}),
        )
        try:
            self.llm: LLMEngine = LLMEngine.from_engine_args(arguments)
        except (OSError, RuntimeError, ValueError) as problem:
            first = str(problem).strip().splitlines()[0]
            raise ModelProblem(f"vLLM cannot load «{source}»: {first}") from problem
        from vllm import __version__

        super().__init__(tokenizer.name, f"vLLM {__version__}", self.llm.model_config.max_model_len)
        self.text = tokenizer
        self.logprobs_mode = logprobs_mode
        self.cutter = cutter
        self._streams: dict[str, _StepStream] = {}
        self._failed: list[Stream] = []
        self._sent = 0
        self._adapters: dict[str, LoRARequest] = {}
        self._added = 0
        self._adapter: str | None = None

    def prefix_cache(self) -> PrefixCache:
        """What vLLM's metrics say."""
        values: dict[str, int] = {}
        for metric in self.llm.get_metrics():
            values[metric.name] = values.get(metric.name, 0) + getattr(metric, "value", 0)
        return PrefixCache(values.get("vllm:prefix_cache_queries", 0), values.get("vllm:prefix_cache_hits", 0))

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load a LoRA adapter.

        Raises:
            ModelProblem: vLLM does not take it.
        """
        from vllm.lora.request import LoRARequest

        self._added += 1
        request = LoRARequest(name, self._added, str(folder))
        try:
            self.llm.add_lora(request)
        except (OSError, RuntimeError, ValueError) as problem:
            first = str(problem).strip().splitlines()[0]
            raise ModelProblem(f"vLLM does not take the adapter in {folder}: {first}") from problem
        self._adapters[name] = request

    def use_adapter(self, name: str | None) -> None:
        """Sample with an adapter that was added from now on, None for without one."""
        self._adapter = name

    def drop_adapter(self, name: str) -> None:
        self.llm.remove_lora(self._adapters.pop(name).lora_int_id)

    def call_off(self, name: str) -> None:
        """Let vLLM forget a turn, if it has not ended there."""
        if self._streams.pop(name, None) is not None:
            self.llm.abort_request([name])

    def _send(self, turn: Turn, seed: int) -> Stream:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._sent += 1
        stream = _StepStream(turn, self, str(self._sent))
        try:
            check_mode(self.logprobs_mode, turn.sampling)
            asked = sampling_parameters(turn, seed, self.never_written)
            parameters = SamplingParams(**asked, output_kind=RequestOutputKind.DELTA)
            adapter = None if self._adapter is None else self._adapters[self._adapter]
            self.llm.add_request(stream.name, self._prompt(self._own(turn)), parameters, lora_request=adapter)
        except (EngineProblem, ValueError) as problem:
            stream.arrivals.append(Arrival(problem=EngineProblem(str(problem))))
            self._failed.append(stream)
        else:
            self._streams[stream.name] = stream
        return stream

    def _prompt(self, session: ServedSession) -> dict[str, Any]:
        """A conversation as vLLM takes it.

        The limits that keep it from drawing an image anew are always the same, for its caches know an image by them as well.
        """
        if self.cutter is None or not session.pictures:
            return {"prompt_token_ids": list(session.tokens)}
        return {
            "prompt_token_ids": one_token_each(session.tokens, self.cutter.pad, session.pictures),
            "multi_modal_data": {"image": [picture.image for _, picture in session.pictures]},
            "mm_processor_kwargs": {"size": self.cutter.sizes(self.context)},
        }

    def _wait(self, seconds: float) -> Iterable[Stream]:
        """One step of vLLM, which takes as long as it takes."""
        from vllm.v1.engine.exceptions import EngineDeadError

        failed, self._failed = self._failed, []
        if failed:
            return failed
        try:
            outputs: Sequence[Any] = self.llm.step()
        except (EngineDeadError, RuntimeError) as problem:
            return self._all_failed(problem)
        return [stream for output in outputs if (stream := self._take_in(output)) is not None]

    def _take_in(self, output: Any) -> Stream | None:
        stream = self._streams.get(output.request_id)
        if stream is None:
            return None  # called off while it was on its way
        (choice,) = output.outputs
        tokens = tuple(
            (token, chosen[token].logprob) for token, chosen in zip(choice.token_ids, choice.logprobs or (), strict=True)
        )
        stream.arrivals.append(arrival(tokens, choice.finish_reason, choice.stop_reason, self.never_written))
        if choice.finish_reason is not None:
            del self._streams[stream.name]
        return stream

    def _all_failed(self, problem: Exception) -> list[Stream]:
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        streams: list[Stream] = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.arrivals.append(Arrival(problem=EngineProblem(f"{self.name} failed in vLLM: {first}")))
        return streams


def _vllm_rank(rank: int) -> int:
    """The next of the ranks that vLLM makes room for."""
    return next((known for known in (8, 16, 32, 64, 128, 256, 320, 512) if known >= rank), rank)
