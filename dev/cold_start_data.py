"""What the embedded policy learns from before it learns from rewards: paragraphs of HotpotQA and invented pages, in two files.

    .venv/bin/python dev/cold_start_data.py ../shared/data/multihop build/cold
    colsearcher train sft --qa build/cold/qa.jsonl --search build/cold/passages.jsonl …

A question about invented pages needs one of them, HotpotQA's need two passages or more; where a question of HotpotQA comes with
gold sentences alone, these are its passages.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

from invented_pages import pages

OLD, NEW, PAGES = 150, 300, 330  # questions of each kind

Record = dict[str, object]


def page_records(rng: random.Random) -> tuple[list[Record], list[Record]]:
    """Invented pages and questions about them."""
    passages: list[Record] = []
    questions: list[Record] = []
    for file, number, text, asked in pages(rng):
        passages.append({"id": file, "text": text})
        for question, answer in asked:
            record = {"question": question, "answers": [answer], "evidence": [f"{file}#p={number}"]}
            questions.append({"id": f"page-{len(questions)}", **record})
    rng.shuffle(questions)
    return passages, questions[:PAGES]


def sentence_records(lines: list[str], rng: random.Random) -> tuple[list[Record], list[Record]]:
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
    return passages, questions[:NEW]


def read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def as_json(records: list[Record]) -> list[str]:
    return [json.dumps(record, ensure_ascii=False) for record in records]


def main(multihop: Path, out: Path) -> None:
    rng = random.Random(0)
    train = read_lines(multihop / "train_context.jsonl")
    sentences, new = sentence_records(read_lines(multihop / "gold_evidence_only.jsonl"), rng)
    drawn, asked = page_records(rng)
    old = rng.sample([line for line in train if json.loads(line)["dataset"] == "hotpotqa"], OLD)
    questions = [*old, *as_json(new + asked)]
    rng.shuffle(questions)
    out.mkdir(parents=True, exist_ok=True)
    write_lines(out / "passages.jsonl", [*train, *as_json(sentences + drawn)])
    write_lines(out / "qa.jsonl", questions)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
