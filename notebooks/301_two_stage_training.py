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
# # 301 · Teach a policy to search, then to answer
#
# R1-Searcher's two stages on a policy of a million weights, in minutes on one CPU core: everything is the real thing (rollouts,
# rewards, GRPO through TRL, guard, run folder) but for the size. What the code of a name is stands in a document, and nowhere
# else, so only a policy that searches and reads can answer.
#
# `jupytext --to ipynb notebooks/301_two_stage_training.py` makes a notebook of this file. `training/README.md` has the commands
# for policies of a real size.

# %%
import logging
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from IPython.display import Image

from colsearcher.training.policy.practice import (
    PROTOCOL,
    Dictionary,
    cold_policy,
    key_value_world,
    rates,
    world_to_train_in,
)
from colsearcher.training.policy.recipe import read_recipe, recipe_path
from colsearcher.training.policy.report import draw_curves, read_run
from colsearcher.training.policy.stage_run import train_in
from colsearcher.training.run_folder import RunFolder

logging.getLogger("transformers").setLevel(logging.ERROR)
torch.set_num_threads(1)  # for so small a model threads cost more than they give
work = Path(tempfile.mkdtemp())

# %% [markdown]
# ## The world, and a policy with everything left to learn
#
# After its cold start the policy restates what is asked, seldom searches, and answers by guessing.

# %%
world = key_value_world(names=500, held_out=60)
print(world.learned[0].text, "→", world.learned[0].answers)
print(Dictionary(world).search(["code of " + world.learned[0].id], 1)[0][0].text)
policy = cold_policy(world, work / "cold")
history = {"cold start": rates(policy, world, temperature=1.0)}
history["cold start"]

# %% [markdown]
# ## Stage 1: to search
#
# Half a point for a search that finds something, half for a transcript without a fault. A recipe is a TOML file; `steps=20`
# changes one of its values.

# %%
run = work / "run"


def stage(name, *changes):
    recipe = read_recipe(recipe_path("practice", name), changes)
    folder = RunFolder(run / name)
    folder.start({}, {}, resume=False)
    train_in(world_to_train_in(world, recipe), policy, recipe, folder, lambda line: None)
    return rates(policy, world)


history["after stage 1"] = stage("retrieval", "steps=20")
history["after stage 1"]

# %% [markdown]
# It searches, in the right format. It does not answer any better: nothing has told it to.
#
# ## Stage 2: to answer
#
# The F1 of the answer, less half a point for broken tags.

# %%
history["after stage 2"] = stage("answer", "steps=50")
history["after stage 2"]

# %% [markdown]
# ## What happened
#
# Held-out names, none of which were ever asked in training; then the curves of both stages (`colsearcher train report` writes
# the same for any run).

# %%
for name, own in history.items():
    print(f"{name:<14} searches {own.search:.2f}   F1 {own.f1:.2f}   format {own.format:.2f}")

# %%
draw_curves(read_run(run)).savefig(work / "curves.png")
Image(filename=str(work / "curves.png"), width=900)

# %% [markdown]
# One of the rollouts that it learned from, as it was kept. `colsearcher replay` opens the same file.

# %%
from colsearcher.agent.trace import read_trace

kept = sorted((run / "answer" / "traces").glob("*.jsonl"))[-1]
events = read_trace(kept)
print(events[0].data["question"])
print("".join(str(event.data.get("text", "")) for event in events if event.kind in ("written", "token")))
print(events[-1].data["rewards"])
PROTOCOL.system
