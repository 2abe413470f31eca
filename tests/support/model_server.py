"""A scripted model on loopback that speaks the wire formats of OpenAI, Anthropic and Ollama, streaming included, with faults.

The real clients talk to it over HTTP. Each request takes the next step of the script; the last one repeats.

Source of the formats: the makers' public API references (chat completions, messages, `/api/chat`).
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Step:
    """What the server does with one request.

    Attributes:
        text: The answer.
        calls: Tools to call, as (name, arguments).
        status: Anything but 200 is an error with ``text`` as its message.
        headers: Added to the response.
        delay: Seconds before the first byte.
        trickle: Seconds between single bytes.
        cut: Close the connection after so many bytes of the body.
        drop: Close the connection without an answer.
        raw: Sent as the body as it is.
        stop: Why the answer ended, in the words of OpenAI.
        refusal: Whether the model declines.
    """

    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    trickle: float = 0.0
    cut: int | None = None
    drop: bool = False
    raw: bytes | None = None
    stop: str = "stop"
    refusal: bool = False
    tokens: tuple[int, int] = (1200, 80)


@dataclass
class Asked:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class ModelServer:
    """The server, its script, and what it was asked."""

    def __init__(self, steps: list[Step]) -> None:
        """Keep the script."""
        self.steps = steps
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError, OSError):
                    server._answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """Return ``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def base_url(self, provider: str) -> str:
        """Return what a client of a maker is pointed at."""
        return f"{self.address}/v1" if provider == "openai" else self.address

    def __enter__(self) -> ModelServer:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers.get("Content-Length", "0"))) or b"{}")
        with self._lock:
            step = self.steps[min(len(self.asked), len(self.steps) - 1)]
            self.asked.append(Asked(handler.path, {k.lower(): v for k, v in handler.headers.items()}, body))
        if step.delay:
            time.sleep(step.delay)
        if step.drop:
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        if step.status != 200:
            self._send(
                handler,
                step,
                json.dumps({"error": {"message": step.text, "type": "error"}}).encode(),
                "application/json",
            )
            return
        if step.raw is not None:
            self._send(handler, step, step.raw, "application/json")
            return
        if handler.path.endswith("/chat/completions"):
            payload, kind = _openai(body, step)
        elif handler.path.endswith("/messages"):
            payload, kind = _anthropic(body, step)
        elif handler.path.endswith("/api/chat"):
            payload, kind = _ollama(body, step)
        else:
            self._send(handler, Step(status=404), b'{"error": {"message": "no such path"}}', "application/json")
            return
        self._send(handler, step, payload, kind)

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, step: Step, payload: bytes, kind: str) -> None:
        handler.send_response(step.status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(payload)))
        for name, value in step.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        shown = payload if step.cut is None else payload[: step.cut]
        if step.trickle:
            for i in range(len(shown)):
                handler.wfile.write(shown[i : i + 1])
                handler.wfile.flush()
                time.sleep(step.trickle)
        else:
            handler.wfile.write(shown)
            handler.wfile.flush()
        if step.cut is not None:
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True


def _pieces(text: str) -> Iterator[str]:
    for at in range(0, len(text), 7):
        yield text[at : at + 7]


def _events(documents: list[dict[str, Any]], named: bool = False) -> bytes:
    lines = []
    for one in documents:
        head = f"event: {one['type']}\n" if named else ""
        lines.append(f"{head}data: {json.dumps(one)}\n\n")
    return "".join(lines).encode()


def _openai(body: dict[str, Any], step: Step) -> tuple[bytes, str]:
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for n, (name, arguments) in enumerate(step.calls)
    ]
    usage = {
        "prompt_tokens": step.tokens[0],
        "completion_tokens": step.tokens[1],
        "total_tokens": sum(step.tokens),
    }
    stop = "tool_calls" if calls else step.stop
    head = {"id": "chatcmpl-1", "created": 0, "model": body.get("model", "test")}
    if body.get("stream"):
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in _pieces(step.text)]
        deltas += [{"tool_calls": [{"index": n, **call}]} for n, call in enumerate(calls)]
        chunks = [
            {**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": d, "finish_reason": None}]}
            for d in deltas
        ]
        chunks.append(
            {**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": stop}]}
        )
        chunks.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        return _events(chunks) + b"data: [DONE]\n\n", "text/event-stream"
    message: dict[str, Any] = {"role": "assistant", "content": step.text or None}
    if calls:
        message["tool_calls"] = calls
    if step.refusal:
        message |= {"content": None, "refusal": step.text or "I cannot help with that."}
    whole = {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": stop}],
        "usage": usage,
    }
    return json.dumps(whole).encode(), "application/json"


def _anthropic(body: dict[str, Any], step: Step) -> tuple[bytes, str]:
    stops = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
    stop = "tool_use" if step.calls else "refusal" if step.refusal else stops.get(step.stop, step.stop)
    content: list[dict[str, Any]] = [{"type": "text", "text": step.text}] if step.text or not step.calls else []
    content += [
        {"type": "tool_use", "id": f"toolu_{n}", "name": name, "input": arguments}
        for n, (name, arguments) in enumerate(step.calls)
    ]
    usage = {"input_tokens": step.tokens[0], "output_tokens": step.tokens[1]}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model", "test")}
    if not body.get("stream"):
        whole = {**head, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}
        return json.dumps(whole).encode(), "application/json"
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {
                **head,
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {**usage, "output_tokens": 0},
            },
        }
    ]
    for n, block in enumerate(content):
        if block["type"] == "text":
            events.append({"type": "content_block_start", "index": n, "content_block": {"type": "text", "text": ""}})
            events += [
                {"type": "content_block_delta", "index": n, "delta": {"type": "text_delta", "text": piece}}
                for piece in _pieces(block["text"])
            ]
        else:
            events.append({"type": "content_block_start", "index": n, "content_block": {**block, "input": {}}})
            events.append(
                {
                    "type": "content_block_delta",
                    "index": n,
                    "delta": {"type": "input_json_delta", "partial_json": json.dumps(block["input"])},
                }
            )
        events.append({"type": "content_block_stop", "index": n})
    events.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": {"output_tokens": step.tokens[1]},
        }
    )
    events.append({"type": "message_stop"})
    return _events(events, named=True), "text/event-stream"


def _ollama(body: dict[str, Any], step: Step) -> tuple[bytes, str]:
    head = {"model": body.get("model", "test"), "created_at": "2026-01-01T00:00:00Z"}
    calls = [{"function": {"name": name, "arguments": arguments}} for name, arguments in step.calls]
    last = {
        **head,
        "message": {"role": "assistant", "content": "", **({"tool_calls": calls} if calls else {})},
        "done": True,
        "done_reason": step.stop,
        "total_duration": 1,
        "load_duration": 1,
        "prompt_eval_count": step.tokens[0],
        "prompt_eval_duration": 1,
        "eval_count": step.tokens[1],
        "eval_duration": 1,
    }
    if body.get("stream", True):
        lines = [
            {**head, "message": {"role": "assistant", "content": piece}, "done": False} for piece in _pieces(step.text)
        ]
        return "".join(json.dumps(line) + "\n" for line in [*lines, last]).encode(), "application/x-ndjson"
    last["message"]["content"] = step.text
    return json.dumps(last).encode(), "application/json"
