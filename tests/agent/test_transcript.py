import io

from colsearcher.agent.transcript import Transcript


def test_a_transcript_shows_what_is_written_searches_best_first_and_no_empty_lines():
    out = io.StringIO()
    transcript = Transcript(out)
    transcript.event("ask", {"question": "Which oil?"})
    for text in ("gear", "box oil", " ", "\n", "SAE", "\n", "\n"):
        transcript.event("token", {"text": text})
    transcript.event("turn", {})
    hits = [{"address": "a.pdf#p=1", "score": 0.2}, {"address": "b.pdf#p=2", "score": 0.9}]
    transcript.event("hits", {"query": "oil", "hits": hits, "first": 1, "notice": None})
    assert out.getvalue().splitlines() == [
        "question  Which oil?",
        "policy    gearbox oil ",
        "          SAE",
        "search 1  «oil»",
        "          (2) 0.900  b.pdf#p=2",
        "          (1) 0.200  a.pdf#p=1",
    ]
