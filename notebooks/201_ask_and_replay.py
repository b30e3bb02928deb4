# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 201 · Ask, and look into how the answer came about
#
# From a question to a checked answer in Python: the agent's loop, its trace, and other policies, engines and sources in its
# place. Runs on the embedded models: no GPU, no hub.
#
# `jupytext --to ipynb notebooks/201_ask_and_replay.py` makes a notebook of this file.

# %%
import json
import tempfile
from pathlib import Path

from colsearcher.agent.ask import ask
from colsearcher.agent.calibration import load_calibration
from colsearcher.agent.policy import load_policy
from colsearcher.agent.protocol import GUIDED, REASONING
from colsearcher.agent.record import Budgets, Task
from colsearcher.agent.rollout import run_rollouts
from colsearcher.agent.source import Place, Source, open_source
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.embedder import load_embedder
from colsearcher.retrieval.indexing import add_documents, missing_work, open_or_create
from colsearcher.retrieval.reading import ReadSettings
from colsearcher.retrieval.sample.corpus import write_sample_corpus
from colsearcher.retrieval.searcher import Searcher

work = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Something to search, and somebody to ask
# The index of notebook 101, and the policy that comes along: 135M parameters, trained to search, which writes its queries and
# its answer between tags (`REASONING`). It comes with a calibration: how sure it has to be for an answer to be given.

# %%
write_sample_corpus(work / "corpus")
embedder = load_embedder()
with open_or_create(work / "index", embedder, ReadSettings()) as index, index.writing():
    add_documents(index, embedder, missing_work(index, find_sources([work / "corpus"])), ReadSettings())
searcher = Searcher.open(work / "index")
engine = TransformersEngine(load_policy())
calibration = load_calibration(work / "index", f"{engine.name}@{engine.revision[:12]}", print)

# %%
asked = ask("From which pier does the free ferry to the open day leave?", searcher, engine, REASONING, calibration=calibration)
print(asked.answer.text, [str(place) for place in asked.answer.citations])

# %% [markdown]
# An answer is given only when a page that was read says it and it is likely enough; otherwise the nearest pages are shown.

# %%
nothing = ask("What is the meaning of error code E-88?", searcher, engine, REASONING, calibration=calibration)
print(nothing.answer.text, "|", nothing.answer.reason, [str(place) for place in nothing.answer.nearest])

# %% [markdown]
# ## The rollout: every token, and who wrote it
# `ids` are what the model saw and wrote, in order, never decoded and encoded again; `mask` is 1 exactly on what it sampled.
# That is what training learns from.

# %%
rollout = asked.rollout
for segment in rollout.segments:
    print(f"{segment.source:<10}{' '.join(segment.text.split())[:100]}")
print(len(rollout.ids), "tokens,", sum(rollout.mask), "written by the policy, mean logprob", end=" ")
print(round(sum(rollout.logprobs) / sum(rollout.mask), 2))

# %% [markdown]
# ## The trace
# The same as events, one JSON object a line, written as they happen. `colsearcher replay` tells it again in a terminal, or as
# one HTML file: the path from question to answer, the pages with what matched, every token with its probability and entropy.

# %%
events = [json.loads(line) for line in asked.trace.read_text().splitlines()]
for event in events:
    if event["kind"] in ("query", "hits", "turn", "stop"):
        print({name: value for name, value in event.items() if name in ("kind", "at_s", "query", "stop", "tokens")})

# %% [markdown]
# The page that the answer comes from, with what the question matched on it.

# %%
searcher.picture(asked.answer.citations[0], question=asked.question, side=700)

# %% [markdown]
# ## Many questions at once
# Each conversation pauses on its own; the turns of all go through the model together, their searches to the index together.

# %%
questions = [json.loads(line)["question"] for line in (work / "corpus/qa.jsonl").read_text().splitlines()[:6]]
source = Source.of(searcher)
for number, done in run_rollouts([Task(text) for text in questions], engine, source.retriever, REASONING, Budgets(documents=2)):
    print(f"{done.stop:<12}{questions[number][:60]:<62}{done.parsed.answer}")

# %% [markdown]
# ## Another source
# A file of passages in place of the index (a URL of a search service does as well): train on one, test on another.

# %%
passages = work / "passages.jsonl"
facts = {"Heron Shoal": "The light of Heron Shoal was built by Ada Finch in 1871.", "Wick": "Wick Harbour has two piers."}
passages.write_text("\n".join(json.dumps({"title": title, "text": text}) for title, text in facts.items()))
with open_source(Place.parse(None, str(passages))) as opened:
    found = ask("Who built the light of Heron Shoal?", opened, engine, REASONING)
    print(found.answer.text, [str(place) for place in found.answer.citations])

# %% [markdown]
# ## Another protocol, another policy, another engine
# The same loop; `load_policy` takes a folder or a hub id (one that sees, such as Qwen2.5-VL, is shown pictures of the pages).
# `embedded` is the same policy before it was trained. `GUIDED` is for such a one: the environment writes the tags, the policy
# fills in a query and an answer. Left to write the tags itself it does not keep the format, and its rollout says so.

# %%
untrained = TransformersEngine(load_policy("embedded"))
shackle = "With which shackle is the chain joined to the swivel?"
print(ask(shackle, searcher, untrained, GUIDED).answer.text)
free = ask(shackle, searcher, untrained, REASONING, budgets=Budgets(total_tokens=300))
print(free.rollout.stop, [str(problem) for problem in free.rollout.parsed.problems])
assert free.answer.abstained or free.answer.citations
searcher.index.close()
