"""A search service over a real HTTP server in a thread."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fake_engine import ScriptedEngine

from colsearcher.agent.engine import StopReason
from colsearcher.agent.http_search import HttpSearch, SearchProblem
from colsearcher.agent.protocol import REASONING
from colsearcher.agent.rollout import run_rollout
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError


@contextmanager
def service(reply):
    """A server whose answer is `reply(question)`: a JSON value, or (status, bytes). Yields its URL and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, question))
            answer = reply(question)
            status, body = answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode())
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/retrieve", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def contents(name, text, score):
    return {"document": {"id": name, "contents": f'"Title {name}"\n{text}'}, "score": score}


def test_it_is_asked_and_read_as_search_r1_has_it():
    with service(lambda q: {"result": [[contents("7", f"About {query}.", 0.5)] for query in q["queries"]]}) as (url, asked):
        found = HttpSearch(f"{url}?index=wiki").search(["ferries", "tulips"], 3)
    assert asked == [("/retrieve?index=wiki", {"queries": ["ferries", "tulips"], "topk": 3, "return_scores": True})]
    assert [[(p.address, p.text, p.score) for p in one] for one in found] == [
        [(Address("Title 7/7", 1), "Title 7. About ferries.", 0.5)],
        [(Address("Title 7/7", 1), "Title 7. About tulips.", 0.5)],
    ]


@pytest.mark.parametrize(
    ("document", "address", "text"),
    [
        ({"document": {"id": 3, "title": "Tulip", "text": "In October."}, "score": 1}, "Tulip/3#p=1", "Tulip. In October."),
        ({"document": {"title": "Tulip", "text": "In\nOctober."}}, "Tulip#p=1", "Tulip. In October."),
        ({"id": "x", "text": "No title \ud800."}, "x#p=1", "No title ?."),
        ({"id": "x", "contents": "one line"}, "x#p=1", "one line"),
    ],
)
def test_other_shapes_of_a_document(document, address, text):
    with service(lambda q: {"result": [[document]]}) as (url, _):
        (passage,) = HttpSearch(url).search(["x"], 1)[0]
    assert (str(passage.address), passage.text) == (address, text)


def test_no_address_comes_twice_and_k_is_kept():
    found = [contents(name, "text", 1 - i / 10) for i, name in enumerate("abacbd")]
    with service(lambda q: {"result": [found]}) as (url, _):
        names = [p.address.document[-1] for p in HttpSearch(url).search(["x"], 3)[0]]
    assert names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((500, b"oops"), "answered with status 500"),
        ((302, b""), "answered with status 302"),
        ((200, b"<html>"), "it is not JSON"),
        ((200, b"[" * 100_000), "it is not JSON"),
        ({"results": []}, 'there is no "result" with 1 lists'),
        ({"result": []}, 'there is no "result" with 1 lists'),
        ({"result": [[{"score": 1.0}]]}, "lacks something"),
        ({"result": [[{"document": {"text": "nameless"}}]]}, "lacks something"),
        ({"result": [[{"document": {"id": "1", "text": 5}}]]}, "not a text and a number"),
        ({"result": [[{"document": {"id": "1", "text": "x"}, "score": float("nan")}]]}, "not a text and a number"),
        ({"result": [None]}, "wrong type"),
    ],
)
def test_a_wrong_answer_is_one_sentence_and_ends_the_rollout(answer, sentence):
    with service(lambda q: answer) as (url, _):
        engine = ScriptedEngine(["<begin_of_query>tulips<end_of_query>", "</think><answer>x</answer>"])
        rollout = run_rollout("When are tulips planted?", engine, HttpSearch(url), REASONING)
    assert rollout.stop is StopReason.RETRIEVER_FAILED
    assert sentence in rollout.error and url in rollout.error and rollout.error.endswith(".")


def test_nobody_there_and_nobody_in_time():
    with (
        service(lambda q: time.sleep(0.5) or {}) as (url, _),
        pytest.raises(SearchProblem, match="did not answer within"),
    ):
        HttpSearch(url, seconds=0.1).search(["x"], 1)
    with pytest.raises(SearchProblem, match="does not answer"):
        HttpSearch(url).search(["x"], 1)


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "http://", "http://host:port/", "http://a b/", "http://me:word@host/", "http://ü.de/"]
)
def test_what_is_no_address_is_said_so(url):
    with pytest.raises(UserError, match="address of"):
        HttpSearch(url)
