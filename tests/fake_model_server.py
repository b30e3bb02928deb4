"""Real small HTTP servers: one speaks vLLM's completions API with a random 2-layer model behind it, one a chat API from a
script."""

from __future__ import annotations

import copy
import json
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from PIL import Image
from tiny_policy import tiny_policy

from colsearcher.agent.engine import Generation, Sampling, Session, StopReason, Turn, take_turn
from colsearcher.agent.policy import Policy
from colsearcher.agent.transformers_engine import TransformersEngine

ROOT = "/models/tiny"  # where the policy was loaded from, as a list of models says it
FINISH = {StopReason.EOS: "stop", StopReason.STOP_STRING: "stop"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.owner.get(self, self.path)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.owner.requests.append(body)
        self.server.owner.post(self, self.path, body)

    def answer(self, content: object, status: int = 200) -> None:
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, events: Sequence[dict[str, Any] | str]) -> None:
        """Send events in chunks; the word «break» ends the connection there and then."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in [*events, "[DONE]"]:
                if event == "break":
                    self.close_connection = True
                    return
                time.sleep(self.server.owner.pause_s)
                data = f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
                self.server.owner.sent += 1
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.server.owner.left += 1
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    owner: FakeServer
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that hung up
            super().handle_error(request, client_address)


class FakeServer:
    """Attributes: `requests` are the bodies that came in, `left` counts clients that went away in the middle, `sent` events."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.left = 0
        self.sent = 0
        self.pause_s = 0.0
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def get(self, handler: _Handler, path: str) -> None:
        raise NotImplementedError

    def post(self, handler: _Handler, path: str, body: dict[str, Any]) -> None:
        raise NotImplementedError


class CompletionServer(FakeServer):
    """Speaks vLLM's completions API and, for a policy that sees, its API of tokens in and tokens out.

    Attributes:
        scale_out: whether it has the latter; pictures are cut as the checkpoint's processor has it, whatever size they come in.
        per_event: tokens in one event.
        fault: `status` refuses a completion, `error` sends an error event after two tokens, `break` ends the connection there.
    """

    def __init__(self, context: int = 2048, raw: bool = False, policy: Policy | None = None) -> None:
        super().__init__()
        self.policy = policy or tiny_policy(context)
        self.engine = TransformersEngine(self.policy, context)
        self.scale_out = policy is not None
        self.raw = raw
        self.per_event = 1
        self.fault = ""
        self.token_ids = True
        self.takes_adapters = True
        self.adapters: dict[str, TransformersEngine] = {}
        self._lock = threading.Lock()

    def get(self, handler: _Handler, path: str) -> None:
        if path == "/v1/models":
            handler.answer({"data": [{"id": "served", "root": ROOT, "max_model_len": self.engine.context}]})
        elif path == "/version":
            handler.answer({"version": "0.0.test"})
        elif path == "/metrics":
            lines = ['vllm:prefix_cache_queries_total{engine="0"} 70.0', 'vllm:prefix_cache_hits_total{engine="0"} 6e1']
            handler.answer("\n".join(["# HELP a comment", *lines, 'vllm:prefix_cache_hits_total{engine="1"} 4.0']))
        elif path == "/openapi.json":
            fields = {"GenerateRequest": {"properties": {"content_parts": {}, "return_token_ids": {}}}}
            described = {"paths": {"/inference/v1/generate": {}}, "components": {"schemas": fields}}
            handler.answer(described if self.scale_out else {"paths": {}, "components": {"schemas": {}}})
        else:
            handler.answer({"detail": "Not Found"}, 404)

    def post(self, handler: _Handler, path: str, body: dict[str, Any]) -> None:
        if path.endswith("load_lora_adapter"):
            self._change_adapters(handler, path, body)
        elif path == "/tokenize":
            handler.answer({"tokens": self.engine.encode(body["prompt"])})
        elif self.fault == "status" and body.get("stream"):
            handler.answer({"error": {"message": "The model's context is full.\n"}}, 400)
        elif path == "/inference/v1/generate" and self.scale_out:
            handler.stream(self._generated(body))
        else:
            choices = self._choices(body)
            if not body.get("stream"):
                handler.answer({"choices": choices[:1]})
                return
            events: list[dict[str, Any] | str] = [{"choices": [choice]} for choice in choices]
            if self.fault:
                events[2:] = ["break"] if self.fault == "break" else [{"error": {"message": "out of memory"}}]
            handler.stream(events)

    def _change_adapters(self, handler: _Handler, path: str, body: dict[str, Any]) -> None:
        name = body["lora_name"]
        if not self.takes_adapters:
            handler.answer({"detail": "Not Found"}, 404)
        elif path == "/v1/unload_lora_adapter":
            known = self.adapters.pop(name, None) is not None
            handler.answer(f"Success: LoRA adapter '{name}' removed successfully." if known else {}, 200 if known else 404)
        elif name in self.adapters:
            handler.answer({"error": {"message": f"The lora adapter '{name}' has already been loaded."}}, 400)
        elif not (Path(body["lora_path"]) / "adapter_model.safetensors").is_file():
            handler.answer({"error": {"message": f"No adapter found for '{body['lora_path']}'"}}, 404)
        else:
            model: Any = PeftModel.from_pretrained(copy.deepcopy(self.policy.model), body["lora_path"]).eval()
            self.adapters[name] = TransformersEngine(replace(self.policy, model=model))
            handler.answer(f"Success: LoRA adapter '{name}' added successfully.")

    def _generated(self, body: dict[str, Any]) -> list[dict[str, Any] | str]:
        engine, asked = self.adapters.get(body["model"], self.engine), body["sampling_params"]
        assert engine.cutter is not None
        place = body["token_ids"].index(engine.cutter.pad)
        ids, shown = [], []
        images = iter(body["content_parts"])
        for token in body["token_ids"][place:]:
            if token != engine.cutter.pad:
                ids.append(token)
                continue
            file = BytesIO(b64decode(next(images)["url"].partition(",")[2]))
            image = engine.cutter.processor(images=[Image.open(file)], return_tensors="pt")
            _, rows, columns = image["image_grid_thw"][0].tolist()
            side = engine.cutter.side // 2
            picture = engine.cutter.cut(Image.open(file).resize((columns * side, rows * side)), rows * columns)
            ids += [token] * picture.tokens
            shown.append(picture)
        with self._lock:
            session = engine.start(body["token_ids"][:place])
            session.append(ids, shown)
            whole = session.ids
            written = self._written(engine, session, asked)
        events: list[dict[str, Any] | str] = []
        for number, (token, logprob) in enumerate(zip(written.ids, written.logprobs, strict=True)):
            said = {"content": [{"token": f"token_id:{token}", "logprob": logprob}]}
            events.append({"choices": [{"token_ids": [token], "logprobs": said, "finish_reason": None}]})
            if number == 0:
                events[0] |= {"prompt_token_ids": list(whole)}  # type: ignore[operator]
        events[-1]["choices"][0]["finish_reason"] = FINISH.get(written.stop, "length")  # type: ignore[index]
        return events

    def _written(self, engine: TransformersEngine, session: Session, asked: dict[str, Any]) -> Generation:
        sampling = Sampling(asked["temperature"], asked["top_p"], asked["seed"], asked["max_tokens"])
        try:
            return take_turn(engine, Turn(session, sampling, asked.get("stop", ())))
        finally:
            session.close()

    def _choices(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        engine = self.adapters.get(body["model"], self.engine)
        with self._lock:
            session = engine.start(body["prompt"])
            written = self._written(engine, session, body)
            temperature = 1.0 if self.raw else body["temperature"] or 1.0
            logprobs_T_V = _logprobs_T_V(engine, session.ids, temperature)[len(body["prompt"]) - 1 :]
        choices = []
        for start in range(0, len(written.ids), self.per_event):
            ids = written.ids[start : start + self.per_event]
            rows = logprobs_T_V[start : start + len(ids)]
            last = start + len(ids) == len(written.ids)
            choice: dict[str, Any] = {"text": self.engine.decode(ids), "finish_reason": None, "stop_reason": None}
            if self.token_ids:
                choice["token_ids"] = list(ids)
            tops = [row.topk(max(body["logprobs"], 1)) for row in rows]
            choice["logprobs"] = {
                "token_logprobs": [float(row[token]) for row, token in zip(rows, ids, strict=True)],
                "top_logprobs": [
                    {f"token_id:{i}": v for i, v in zip(top.indices.tolist(), top.values.tolist(), strict=True)} for top in tops
                ],
            }
            if last:
                choice |= {"finish_reason": FINISH.get(written.stop, "length"), "stop_reason": written.matched}
            choices.append(choice)
        return choices


def _logprobs_T_V(engine: TransformersEngine, ids: Sequence[int], temperature: float) -> torch.Tensor:
    with torch.inference_mode():
        logits = engine.model(torch.tensor([list(ids)]), use_cache=False).logits[0].float()
    return torch.log_softmax(logits / temperature, dim=-1)


class ChatServer(FakeServer):
    """Speaks an OpenAI-compatible chat API. Each request is answered with the next reply, a few characters an event; a reply
    may come with the finish reason to give, as in `("text", "length")`."""

    def __init__(self, replies: Sequence[str | tuple[str, str]], key: str | None = None, lists_models: bool = True) -> None:
        super().__init__()
        self.replies = list(replies)
        self.key = key
        self.lists_models = lists_models
        self.per_event = 3

    def get(self, handler: _Handler, path: str) -> None:
        if not self._allowed(handler):
            return
        if path == "/v1/models" and self.lists_models:
            handler.answer({"object": "list", "data": [{"id": "small"}, {"id": "large"}]})
        else:
            handler.answer("not here", 404)

    def post(self, handler: _Handler, path: str, body: dict[str, Any]) -> None:
        if not self._allowed(handler):
            return
        reply = self.replies.pop(0)
        text, finish = (reply, "stop") if isinstance(reply, str) else reply
        pieces = [text[start : start + self.per_event] for start in range(0, len(text), self.per_event)]
        events: list[dict[str, Any] | str] = [
            {"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]},
            *({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
            {"choices": [], "usage": {"total_tokens": 7}},
        ]
        handler.stream(events)

    def _allowed(self, handler: _Handler) -> bool:
        if self.key is None or handler.headers["Authorization"] == f"Bearer {self.key}":
            return True
        handler.answer({"error": {"message": "Incorrect API key provided."}}, 401)
        return False
