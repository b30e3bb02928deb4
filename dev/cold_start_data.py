"""What the embedded policy learns from before it learns from rewards: paragraphs of HotpotQA and invented pages, in two files.

    .venv/bin/python dev/cold_start_data.py ../shared/data/multihop build/cold
    .venv/bin/python dev/cold_start_data.py ../shared/data/multihop build/cold-3 --seed 1 --old 60 --new 60 --pages 400
    colsearcher train sft --qa build/cold/qa.jsonl --search build/cold/passages.jsonl …

A question about invented pages needs one of them, HotpotQA's need two passages or more; where a question of HotpotQA comes with
gold sentences alone, these are its passages.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

from invented_pages import pages

Record = dict[str, object]


def page_records(rng: random.Random, count: int) -> tuple[list[Record], list[Record]]:
    """Invented pages and questions about them."""
    passages: list[Record] = []
    questions: list[Record] = []
    for file, number, text, asked in pages(rng):
        passages.append({"id": file, "text": text})
        for question, answer in asked:
            record = {"question": question, "answers": [answer], "evidence": [f"{file}#p={number}"]}
            questions.append({"id": f"page-{len(questions)}", **record})
    rng.shuffle(questions)
    return passages, questions[:count]


def sentence_records(lines: list[str], rng: random.Random, count: int) -> tuple[list[Record], list[Record]]:
    """HotpotQA's training questions that come with gold sentences alone. A sentence is a passage by the name it begins with."""
    passages: list[Record] = []
    questions: list[Record] = []
    for record in map(json.loads, lines):
        if record["split"] != "train":
            continue
        evidence = []
        for place, sentence in enumerate(record["gold_evidence"]):
            name = re.split(r" \(|,| (?:is|was|are|were|has|had) ", sentence, maxsplit=1)[0].strip(' "')
            if not name or len(name.split()) > 6:
                continue
            title = f"{name} ({len(questions)}.{place})"  # the same name stands in other questions, too
            passages.append({"id": title, "text": " ".join(sentence.split())})
            evidence.append(f"{title}#p=1")
        if len(evidence) == len(record["gold_evidence"]):
            questions.append({name: record[name] for name in ("id", "question", "answers")} | {"evidence": evidence})
    rng.shuffle(questions)
    return passages, questions[:count]


def read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def as_json(records: list[Record]) -> list[str]:
    return [json.dumps(record, ensure_ascii=False) for record in records]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("multihop", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--old", type=int, default=150, help="questions of HotpotQA with whole paragraphs")
    parser.add_argument("--new", type=int, default=300, help="questions of HotpotQA with gold sentences")
    parser.add_argument("--pages", type=int, default=330, help="questions about invented pages")
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    train = read_lines(asked.multihop / "train_context.jsonl")
    sentences, new = sentence_records(read_lines(asked.multihop / "gold_evidence_only.jsonl"), rng, asked.new)
    drawn, about_pages = page_records(rng, asked.pages)
    old = rng.sample([line for line in train if json.loads(line)["dataset"] == "hotpotqa"], asked.old)
    questions = [*old, *as_json(new + about_pages)]
    rng.shuffle(questions)
    asked.out.mkdir(parents=True, exist_ok=True)
    write_lines(asked.out / "passages.jsonl", [*train, *as_json(sentences + drawn)])
    write_lines(asked.out / "qa.jsonl", questions)


if __name__ == "__main__":
    main()
