"""`colsearcher`: the command line. Knows the commands by name and turns errors into one sentence and an exit code.

Exit codes: 0 ok, 2 the input is wrong (one sentence and the fix), 1 our fault (a traceback), 130 interrupted. A command is
imported when it is called, so that `--help` answers at once; the table below is the composition root, the one place of the
agent room that may name modules of `training`.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from colsearcher.agent.flags import LOCAL, parse
from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.local_only import is_local_only, keep_local


@dataclass(frozen=True)
class Command:
    """Where a command lives (`module:Class`) and what it is for. The class is a configuration with `run() -> None`."""

    target: str
    summary: str


COMMANDS: dict[str, Command] = {
    "demo": Command("colsearcher.agent.commands.demo:Demo", "index a sample corpus and ask it three questions"),
    "plan": Command("colsearcher.agent.commands.plan:Plan", "say what indexing would read, take and cost, before it runs"),
    "index add": Command("colsearcher.agent.commands.index:Add", "index PDFs, images and folders of them"),
    "index rm": Command("colsearcher.agent.commands.index:Remove", "remove documents"),
    "index info": Command("colsearcher.agent.commands.index:Info", "what the index holds and what made it"),
    "index verify": Command("colsearcher.agent.commands.index:Verify", "read everything back and check it"),
    "index tune": Command("colsearcher.agent.commands.index:Tune", "measure recall and speed, add candidates to a large index"),
    "index fit-projection": Command(
        "colsearcher.training.storage_commands:FitProjection", "find the directions to keep, for shorter vectors"
    ),
    "index compact": Command("colsearcher.agent.commands.index:Compact", "give back the space of removed pages"),
    "serve-shard": Command("colsearcher.agent.commands.serve_shard:ServeShard", "let other machines search this one's index"),
    "search": Command("colsearcher.agent.commands.search:Search", "rank the pages for a question"),
    "look": Command("colsearcher.agent.commands.look:Look", "draw a page, a box on it, or why a question found it"),
    "ask": Command("colsearcher.agent.commands.ask:Ask", "let the agent search and answer, with cited pages"),
    "chat": Command("colsearcher.agent.commands.chat:Chat", "ask one question after the other; -c goes on with the last"),
    "replay": Command("colsearcher.agent.commands.replay:Replay", "tell a trace again: in the terminal, or as one HTML file"),
    "eval retrieval": Command(
        "colsearcher.training.commands:EvalRetrieval", "score the ranking, and three baselines, on questions"
    ),
    "eval boxes": Command("colsearcher.training.pointing_command:EvalBoxes", "score heat maps on questions with known boxes"),
    "eval mteb": Command("colsearcher.training.commands:EvalMteb", "score an embedder on mteb's tasks, such as ViDoRe"),
    "compare": Command("colsearcher.training.compare_command:Compare", "two embedders on the same files and questions"),
    "compare indexes": Command(
        "colsearcher.training.compare_command:CompareIndexes", "the same with two indexes that exist already"
    ),
    "eval answers": Command("colsearcher.training.answer_commands:EvalAnswers", "score what a policy answers; resumable"),
    "calibrate": Command(
        "colsearcher.training.calibrate_command:Calibrate", "fit when to hold an answer back, and what that gains"
    ),
    "compare answers": Command("colsearcher.training.answer_commands:CompareAnswers", "two answer runs, with an interval"),
    "bench codecs": Command("colsearcher.training.commands:BenchCodecs", "what each codec keeps of the exact ranking"),
    "bench pooling": Command("colsearcher.training.storage_commands:BenchPooling", "what storing fewer vectors costs"),
    "bench embed": Command("colsearcher.training.embed_bench:BenchEmbed", "time how pages become vectors"),
    "bench rollouts": Command("colsearcher.training.rollout_bench:BenchRollouts", "time engines: rollouts per second"),
    "bench search": Command("colsearcher.training.commands:BenchSearch", "time searches beside other engines"),
    "train retriever": Command(
        "colsearcher.training.retriever.commands:TrainRetriever", "fine-tune a visual embedder on questions and pages"
    ),
    "train sft": Command("colsearcher.training.policy.commands:TrainSft", "teach a policy by examples: the cold start"),
    "train policy": Command(
        "colsearcher.training.policy.commands:TrainPolicy", "teach a policy by rewards: to search, then to answer"
    ),
    "train report": Command("colsearcher.training.policy.commands:TrainReport", "curves and before/after of a policy's run"),
    "train data validate": Command(
        "colsearcher.training.policy.data_commands:DataValidate", "prove that gold answers earn their reward"
    ),
    "train data import": Command(
        "colsearcher.training.policy.data_commands:DataImport", "bring other formats in: DocVQA, HotpotQA…"
    ),
    "train data difficulty": Command(
        "colsearcher.training.policy.data_commands:DataDifficulty", "count rollouts until one is right"
    ),
    "train merge": Command("colsearcher.training.merge_command:TrainMerge", "write a run's adapter as a plain checkpoint"),
    "train practice": Command(
        "colsearcher.training.retriever.commands:TrainPractice", "write a small model and pages to try training with"
    ),
    "doctor": Command("colsearcher.agent.commands.doctor:Doctor", "check this installation; a fix for each fault"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except UserError as error:
        sys.stderr.write(f"colsearcher: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ncolsearcher: interrupted; what was committed is kept, the same command goes on from there.\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _dispatch(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        sys.stdout.write(f"colsearcher {version('colsearcher')}\n")
        return 0
    name, rest = _command(words)
    if LOCAL in itertools.takewhile(lambda word: word != "--", rest) or is_local_only():
        keep_local()  # before the command imports a model library
    for word in rest:
        if not word.isprintable() and any("\ud800" <= character <= "\udfff" for character in word):
            shown = word.encode("utf-8", "backslashreplace").decode()
            raise UserError(f"«{shown}» is not UTF-8 text; type it in a UTF-8 terminal, or rename the file.")
    module, _, cls = COMMANDS[name].target.partition(":")
    config = parse(getattr(importlib.import_module(module), cls), rest, f"colsearcher {name}")
    return config.run() or 0


def _command(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    for n in (3, 2, 1):
        if " ".join(words[:n]) in COMMANDS:
            return " ".join(words[:n]), words[n:]
    group = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if group:
        if len(words) > 1 and words[1] in ("-h", "--help"):
            sys.stdout.write(overview(group))
            raise SystemExit(0)
        raise UserError(f"«{words[0]}» needs a verb: {', '.join(f'`colsearcher {name}`' for name in group)}.")
    raise UserError(f"There is no command «{words[0]}»; `colsearcher --help` lists them.")


def overview(names: Sequence[str] = tuple(COMMANDS)) -> str:
    """The help page: each command on a line."""
    width = max(len(name) for name in names) + 2
    lines = [f"  {name:<{width}}{COMMANDS[name].summary}" for name in names]
    return "\n".join(
        [
            "Ask questions of a pile of PDFs that are looked at, not parsed.",
            "",
            "usage: colsearcher COMMAND …      (`colsearcher COMMAND --help` for its options)",
            "",
            *lines,
            "",
            "start here:  colsearcher index add REPORTS/ --index my-index",
            '             colsearcher ask "What was the margin in 2025?" --index my-index',
            "",
        ]
    )
