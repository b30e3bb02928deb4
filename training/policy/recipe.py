"""A stage of training, as one flat TOML file. `recipes/NAME/{retrieval,answer}.toml` are those that come along.

A stage has a reward, an algorithm, sizes, and the limits at which its guard calls a collapse. Unknown keys are errors. Left
out: data, policy and folders, which the command line names.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from colsearcher.agent.range import COUNT, NATURAL, POSITIVE, SEED, Range
from colsearcher.agent.record import Budgets
from colsearcher.indexes.errors import UserError
from colsearcher.training.policy.algorithms import ALGORITHMS
from colsearcher.training.policy.rewards import PRESETS, RewardSum, Term, load_reward

StageName = Literal["retrieval", "answer"]
STAGES: tuple[StageName, ...] = get_args(StageName)

_COUNTS = (
    *("steps", "prompts", "splits", "at_once", "in_flight", "documents", "document_tokens", "picture_tokens"),
    *("turn_tokens", "total_tokens", "guard_window", "save_every", "trace_every"),
)
_NATURALS = (
    *("warmup", "kl", "max_grad_norm", "lora_rank", "searches", "looks", "pages_from", "hardest"),
    *("guard_likelihood", "guard_entropy"),
)
_RANGES = {
    **dict.fromkeys(_COUNTS, COUNT),
    **dict.fromkeys(_NATURALS, NATURAL),
    **dict.fromkeys(("lr", "temperature", "seconds"), POSITIVE),
    "seed": SEED,
    "guard_fall": Range(least=0, most=1),
    "group": Range(least=2),  # rollouts of a question are held against each other
}


@dataclass(frozen=True)
class Recipe:
    """One stage.

    What is learned:
        stage: `retrieval` (to search, in the format) or `answer`.
        rewards: a preset, or rewards as `name` or `name*weight`, also the user's own as `module:function*weight`.
        algorithm: see `algorithms`.

    How much:
        steps: optimizer steps.
        seed: of the order of the questions, of sampling and of new adapters.
        prompts, group: questions of a batch of rollouts, and rollouts of each question.
        splits: optimizer steps that a batch of rollouts is split into.
        at_once: rollouts in one pass of the loss.
        in_flight: conversations that are sampled side by side.

    How:
        lr, warmup, schedule: highest learning rate, steps in which it rises, `constant` or `cosine` after that.
        kl: weight of the divergence from the policy that the stage began with; 0 needs no second copy of it.
        temperature: of sampling and of the loss; top_p is always 1, since the loss is that of the full distribution.
        lora_rank: 0 trains all weights.
        max_grad_norm: gradients are clipped to it, 0 for not.
        gradient_checkpointing: compute activations twice instead of keeping them.

    What a rollout may spend: see `Budgets`.

    Which questions:
        pages_from: a policy that sees gets words before this step and pages from it on.
        hardest: questions that needed more rollouts than this until one was right (`train data difficulty`) are left out.
        rest: a question whose rollouts all earned the same rests, and one that still tells rollouts apart is asked in its
            place; see `difficulty`.

    When to stop, see `guards`; 0 switches a limit off:
        guard_window: batches of rollouts whose means are compared.
        guard_fall: the search, format or answer rate has fallen to less than this share of its best.
        guard_likelihood: nats a token by which the right rollouts have become less likely, where being right is rewarded.
        guard_entropy: nats a token, the least.

    Evidence:
        save_every: steps between two checkpoints.
        trace_every: of each so manieth batch some rollouts are kept as traces.
    """

    stage: StageName
    rewards: tuple[str, ...]
    algorithm: str = "grpo"
    steps: int = 100
    seed: int = 0
    prompts: int = 16
    group: int = 8
    splits: int = 1
    at_once: int = 2
    in_flight: int = 64
    lr: float = 1e-5
    warmup: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    kl: float = 0.0
    temperature: float = 1.0
    lora_rank: int = 16
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    searches: int = 3
    documents: int = 3
    document_tokens: int = 360
    picture_tokens: int = 2048
    turn_tokens: int = 192
    total_tokens: int = 2048
    looks: int = 4
    seconds: float = 600.0
    pages_from: int = 0
    hardest: int = 0
    rest: bool = False
    guard_window: int = 10
    guard_fall: float = 0.5
    guard_likelihood: float = 1.0
    guard_entropy: float = 0.0
    save_every: int = 10
    trace_every: int = 10

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise UserError(f"There is no stage «{self.stage}»; a recipe is for {' or '.join(STAGES)}.")
        if self.algorithm not in ALGORITHMS:
            raise UserError(f"There is no algorithm «{self.algorithm}»; name one of {', '.join(ALGORITHMS)}.")
        for name, allowed in _RANGES.items():
            allowed.check(name, getattr(self, name))
        if self.rollouts % (self.splits * self.at_once):
            raise UserError(
                f"{self.prompts} prompts x group {self.group} are {self.rollouts} rollouts, which cannot be split into "
                f"{self.splits} steps of passes of {self.at_once}; choose numbers that divide it."
            )
        self.reward_sum()

    @property
    def rollouts(self) -> int:
        """Rollouts of a batch."""
        return self.prompts * self.group

    def budgets(self) -> Budgets:
        names = {field.name for field in dataclasses.fields(Budgets)}
        return Budgets(**{name: getattr(self, name) for name in names})

    def reward_sum(self) -> RewardSum:
        """
        Raises:
            UserError: there is no such preset or reward.
        """
        if len(self.rewards) == 1 and self.rewards[0] in PRESETS:
            return PRESETS[self.rewards[0]][STAGES.index(self.stage)]
        terms = []
        for text in self.rewards:
            name, _, weight = text.partition("*")
            try:
                terms.append(Term(load_reward(name.strip()), float(weight or 1.0)))
            except ValueError:
                raise UserError(f"«{text}» has no number behind the *; write it as answer_f1*0.5.") from None
        if not terms:
            raise UserError(f"A stage needs a reward; name a preset ({', '.join(PRESETS)}) or rewards.")
        return RewardSum(tuple(terms))


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe from its file.

    Args:
        changes: `key=value`, in place of what the file says.

    Raises:
        UserError: no such file, not TOML, an unknown key, a value of the wrong type or out of its range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The recipe {path} cannot be read ({error.strerror}); {_known()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML ({error}).") from None
    for change in changes:
        key, separator, text = change.partition("=")
        if not separator:
            raise UserError(f"«{change}» is no change of a recipe; write it as steps=20.")
        values[key.strip()] = _parsed(text.strip())
    return _recipe(values, str(path))


def recipe_path(name: str, stage: StageName) -> Path:
    """The file of a stage: of the user's own folder or file, or of a set that comes along.

    Raises:
        UserError: there is none of that name.
    """
    own = Path(name)
    if own.suffix == ".toml" or own.is_file():
        return own
    if own.is_dir():
        return own / f"{stage}.toml"
    if name not in recipe_names():
        raise UserError(f"There is no recipe «{name}»; {_known()}")
    return _shipped() / name / f"{stage}.toml"


def recipe_names() -> list[str]:
    """The sets that come along."""
    return sorted(path.name for path in _shipped().iterdir() if (path / "answer.toml").is_file())


def _shipped() -> Path:
    return Path(str(files("colsearcher.training.policy") / "recipes"))


def _known() -> str:
    return f"name one of {', '.join(recipe_names())}, or a folder with retrieval.toml and answer.toml."


def _parsed(text: str) -> Any:
    """A value as TOML has it; what is none is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _recipe(values: Mapping[str, Any], where: str) -> Recipe:
    hints = get_type_hints(Recipe)
    for key in values:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1)
            raise UserError(f"{where} has an unknown key «{key}»{f'; did you mean {near[0]}?' if near else '.'}")
    missing = [name for name in ("stage", "rewards") if name not in values]
    if missing:
        raise UserError(f"{where} does not say its {missing[0]}.")
    return Recipe(**{key: _typed(key, value, hints[key], where) for key, value in values.items()})


def _typed(key: str, value: Any, hint: Any, where: str) -> Any:
    if key == "rewards":
        listed = [value] if isinstance(value, str) else value
        if isinstance(listed, list) and all(isinstance(text, str) for text in listed):
            return tuple(listed)
    elif choices := get_args(hint):
        if value in choices:
            return value
        raise UserError(f"{where}: {key} is {value!r}; give one of {', '.join(map(str, choices))}.")
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif type(value) is hint:
        return value
    raise UserError(f"{where}: {key} is {value!r}, which is of the wrong type; see `Recipe` for what it takes.")
