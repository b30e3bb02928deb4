"""A stage that a tiny policy runs in seconds: it is asked about valves and learns to write letters."""

from fake_retriever import Shelf

from colsearcher.agent.policy import Policy
from colsearcher.agent.protocol import GUIDED
from colsearcher.indexes.address import Address
from colsearcher.training.policy.adapters import trainable
from colsearcher.training.policy.recipe import Recipe
from colsearcher.training.policy.rewards import RewardSum, Term
from colsearcher.training.policy.stage_run import train_in
from colsearcher.training.policy.trainer import World
from colsearcher.training.question import Question
from colsearcher.training.run_folder import RunFolder

QUESTIONS = {str(n): Question(str(n), f"Which valve {n}?", ("V-118",), frozenset({Address("pump.pdf", 12)})) for n in range(8)}
RECIPE = Recipe(
    "retrieval",
    ("searched",),
    steps=4,
    prompts=2,
    group=2,
    at_once=2,
    lr=1e-2,
    lora_rank=2,
    kl=0.05,
    searches=1,
    document_tokens=40,
    turn_tokens=12,
    total_tokens=200,
    save_every=1,
    trace_every=2,
    rest=True,
)


def letters(answer):
    """Something that a random model can learn in a few steps."""
    return sum(character.isalpha() for character in answer or "") / 20


def saved(policy: Policy, folder):
    """The folder, with the policy in it."""
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return folder


def train(start, folder, recipe=RECIPE, tell=lambda text: None, sampler=None, viewer=None) -> tuple[Policy, RunFolder]:
    """Train what is in `start`; a folder that is a run already goes on."""
    shelf = Shelf()
    world = World(QUESTIONS, lambda question: shelf, GUIDED, RewardSum((Term(letters),)), recipe.budgets(), viewer)
    policy = trainable(str(start), recipe.lora_rank, "cpu")
    run = RunFolder(folder)
    if not (folder / "config.json").is_file():
        run.start({}, {}, resume=False)
    train_in(world, policy, recipe, run, tell, sampler=sampler)
    return policy, run
