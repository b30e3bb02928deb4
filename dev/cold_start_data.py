"""What the embedded policy learns from before it learns from rewards: paragraphs of HotpotQA and invented pages, in two files.

    .venv/bin/python dev/cold_start_data.py ../shared/data/multihop build/cold
    colsearcher train sft --qa build/cold/qa.jsonl --search build/cold/passages.jsonl …

A page is the words of a page of a report, a manual, a timetable or a letter, in one line, as an index keeps them: a head, some
prose, tables whose cells follow each other. Everything on it is drawn at random; nothing of the sample corpus occurs.
Questions are about one page, some about two. Questions of HotpotQA that come with gold sentences alone get these as passages.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

FILES = 90
OLD, NEW, PAGES = 150, 300, 330  # questions of each kind

Asked = tuple[str, str]  # question, answer
Block = tuple[str, list[Asked]]


@dataclass
class Draw:
    """Random names and numbers; no name twice."""

    rng: random.Random
    used: set[str] = field(default_factory=set)

    def name(self, *endings: str) -> str:
        while True:
            parts = self.rng.choices(_SYLLABLES, k=self.rng.choice((2, 2, 3)))
            made = " ".join(["".join(parts).capitalize(), *([self.rng.choice(endings)] if endings else [])])
            if made not in self.used:
                self.used.add(made)
                return made

    def person(self) -> str:
        return f"{self.rng.choice(_GIVEN)} {self.name()}"

    def number(self, low: float, high: float, digits: int = 0) -> str:
        return f"{self.rng.uniform(low, high):,.{digits}f}"

    def date(self, year: int | None = None) -> str:
        return f"{self.rng.randint(1, 28)} {self.rng.choice(_MONTHS)} {year or self.rng.randint(1994, 2031)}"

    def time(self) -> str:
        return f"{self.rng.randint(5, 22)}:{self.rng.randint(0, 59):02d}"

    def code(self) -> str:
        letters = "".join(self.rng.choices("ABCDEFGHKLMNPRSTVWX", k=self.rng.randint(1, 3)))
        return f"{letters}-{self.rng.randint(2, 9999)}"

    def of(self, *values: str) -> str:
        return self.rng.choice(values)


_SYLLABLES = (
    "ban cor del fen gal hol ist jor kel lun mar nor ost pel quin ros sal tam ulf ver wen yar zel bry dun ash mere wick".split()
)
_GIVEN = (
    "Maud Otto Ines Pavel Ruth Samir Greta Luis Hanna Piotr Amara Viktor Noor Edwin Lucia Tomas Freya Idris Clara Bram".split()
)
_MONTHS = "January February March April May June July August September October November December".split()
_FILLER = (
    "The figures were reviewed in the autumn and are unaudited.",
    "Further details are given in the appendix.",
    "Conditions were harder than in the year before, above all in spring.",
    "Keep this page with the other papers and replace it when a new issue is sent.",
    "Please tell the office of any change without delay.",
    "Rounding may lead to small differences.",
    "This was made possible by a new agreement with two suppliers.",
    "The committee thanked everybody who took part.",
    "Wear gloves and switch the power off before you begin.",
    "More on this is said in the next chapter.",
)


def table(d: Draw, org: str) -> Block:
    """Rows of named things by years or quarters: one cell is asked for."""
    what, unit = d.rng.choice(
        [
            ("Sales", "million euros"),
            ("Visitors", "thousands"),
            ("Output", "tonnes"),
            ("Costs", "thousand pounds"),
            ("Passengers", "thousands"),
            ("Revenue", "million dollars"),
            ("Energy used", "MWh"),
        ]
    )
    kind = d.of("region", "site", "branch", "product line", "plant", "line")
    first = d.rng.randint(2009, 2027)
    years = [str(first + n) for n in range(d.rng.randint(2, 4))]
    if d.rng.random() < 0.25:
        years = ["Q1", "Q2", "Q3", "Q4"][: len(years)]
    rows = {
        d.name(*d.rng.choice([(), ("Bay", "Hill", "Valley", "Ridge", "Cross", "Park")])): [d.number(2, 90, 1) for _ in years]
        for _ in range(d.rng.randint(3, 5))
    }
    text = f"{what} in {unit} " + " ".join(years) + " " + " ".join(f"{name} {' '.join(cells)}" for name, cells in rows.items())
    text += d.of(f" Table {d.rng.randint(1, 9)}. {what} by {kind}.", "")
    name = d.rng.choice(list(rows))
    column = d.rng.randrange(len(years))
    asked = d.of(
        f"What were the {what.lower()} of the {kind} {name} in {years[column]}, in {unit}?",
        f"How high were {what.lower()} at {name} in {years[column]} ({unit})?",
        f"In {unit}, what does {org} state as {what.lower()} of {name} for {years[column]}?",
    )
    return text, [(asked, rows[name][column])]


def specification(d: Draw, org: str) -> Block:
    """Name and value, one after the other."""
    model = f"{d.name()} {d.rng.randint(2, 900)}"
    low = d.rng.randint(1, 40)
    values = {
        "Weight": f"{d.number(1, 900)} kg",
        "Voltage": f"{d.of('12', '24', '48', '110', '230', '400')} V",
        "Battery life": f"{d.number(3, 60)} hours",
        "Operating temperature": f"-{low} to {low + d.rng.randint(5, 50)} °C",
        "Housing": d.of("polyethylene", "stainless steel", "cast aluminium", "oak", "glass fibre", "brass"),
        "Order number": d.code(),
        "Accuracy": f"± {d.number(0.1, 5, 1)} %",
        "Fuse": f"{d.of('2', '4', '6.3', '10', '16')} A, slow",
    }
    chosen = d.rng.sample(list(values), 5)
    text = f"{model} Technical data " + " ".join(f"{name} {values[name]}" for name in chosen)
    name = chosen[d.rng.randrange(5)]
    asked = d.of(
        f"What is the {name.lower()} of the {model}?",
        f"Which {name.lower()} does the data sheet give for the {model}?",
        f"What {name.lower()} does the {model} have?",
    )
    return text, [(asked, values[name])]


def staff(d: Draw, org: str) -> Block:
    roles = [
        "Chair",
        "Treasurer",
        "Secretary",
        "Head of audit",
        "Managing director",
        "Safety officer",
        "Head of sales",
        "Archivist",
    ]
    chosen = {role: d.person() for role in d.rng.sample(roles, d.rng.randint(3, 5))}
    text = d.of("Board and officers", "Contacts", "Who is who", "Committee") + " "
    style = d.rng.random() < 0.5
    text += " ".join(f"{role} {person}" if style else f"{person} {role}" for role, person in chosen.items())
    role = d.rng.choice(list(chosen))
    asked = d.of(
        f"Who is the {role.lower()} of {org}?",
        f"Which person is {role.lower()} at {org}?",
        f"Who serves {org} as {role.lower()}?",
    )
    return text, [(asked, chosen[role])]


def depots(d: Draw, org: str) -> Block:
    """A list of places, each with a thing and a number."""
    thing = d.of("Staff", "Vehicles", "Beds", "Berths", "Machines", "Trees", "Seats", "Rooms")
    ending = d.of("Depot", "Station", "Hall", "Harbour", "Works", "Clinic", "Yard")
    rows = {d.name(ending): (d.name(), d.number(3, 400)) for _ in range(d.rng.randint(3, 5))}
    text = f"Place Manager {thing} " + " ".join(f"{place} {who} {count}" for place, (who, count) in rows.items())
    place = d.rng.choice(list(rows))
    if d.rng.random() < 0.3:
        return text, [(f"Who is the manager of {place}?", rows[place][0])]
    return text, [
        (
            d.of(f"How many {thing.lower()} are there at {place}?", f"What number of {thing.lower()} does {place} have?"),
            rows[place][1],
        )
    ]


def event(d: Draw, org: str) -> Block:
    what = d.of("ferry", "bus", "guided tour", "lecture", "night train", "cable car")
    place, first, last = d.name(), d.time(), d.time()
    price = f"{d.number(2, 40, 2)} {d.of('euros', 'pounds', 'crowns')}"
    text = d.of(
        f"{place.upper()} first {what} {first} last {what} {last} return ticket {price} children free",
        f"The first {what} to {place} leaves at {first} and the last one at {last}. A return ticket costs {price}.",
    )
    question = d.rng.choice(
        [
            (f"When does the first {what} to {place} leave?", first),
            (f"At what time does the last {what} to {place} go?", last),
            (f"What does a return ticket to {place} cost?", price),
        ]
    )
    return text, [question]


def decision(d: Draw, org: str) -> Block:
    project = f"the {d.name('bridge', 'library', 'reservoir', 'workshop', 'tunnel', 'school', 'pier', 'museum')}"
    amount, when, who = f"{d.number(1, 80, 1)} million {d.of('euros', 'crowns', 'dollars')}", d.date(), d.person()
    done = f"{d.of('spring', 'summer', 'autumn', 'the fourth quarter', 'March', 'September')} {d.rng.randint(2012, 2032)}"
    text = d.of(
        f"On {when} the council approved {amount} for {project}. {who} is in charge of the work, "
        f"which is to be finished in {done}.",
        f"{org} will spend {amount} on {project}, as decided on {when}. Completion is planned for {done}; "
        f"{who} leads the project.",
    )
    question = d.rng.choice(
        [
            (f"How much is to be spent on {project}?", amount),
            (f"When was the money for {project} decided on?", when),
            (f"Who is in charge of {project}?", who),
            (f"When is {project} to be finished?", done),
        ]
    )
    return text, [question]


def faults(d: Draw, org: str) -> Block:
    causes = [
        "Pump blocked",
        "Door not closed",
        "Sensor wet",
        "Low pressure",
        "Belt torn",
        "Filter full",
        "No signal",
        "Fan stopped",
        "Oil level low",
    ]
    cures = [
        "Clean the inlet",
        "Close and lock it",
        "Dry and test again",
        "Refill to the mark",
        "Fit a new belt",
        "Change the filter",
        "Check the aerial",
        "Call the service",
        "Top up the oil",
    ]
    device = f"{d.name()} {d.rng.randint(1, 9)}"
    rows = {d.code(): (d.rng.choice(causes), d.rng.choice(cures)) for _ in range(d.rng.randint(3, 5))}
    text = f"{device} faults Code Meaning What to do " + " ".join(
        f"{code} {cause} {cure}" for code, (cause, cure) in rows.items()
    )
    code = d.rng.choice(list(rows))
    if d.rng.random() < 0.5:
        return text, [
            (d.of(f"What does code {code} mean on the {device}?", f"What is the meaning of fault {code}?"), rows[code][0])
        ]
    return text, [
        (d.of(f"What is to be done when the {device} shows {code}?", f"What is the remedy for fault {code}?"), rows[code][1])
    ]


def steps(d: Draw, org: str) -> Block:
    part, tool, torque = (
        d.name("valve", "coupling", "bracket", "rotor", "hatch"),
        d.of("a 13 mm spanner", "a hex key", "a torque wrench", "a soft mallet"),
        f"{d.rng.randint(4, 90)} Nm",
    )
    grease, wait = f"{d.name()} {d.rng.randint(1, 99)}", f"{d.rng.randint(2, 55)} minutes"
    text = (
        f"Fitting the {part} 1 Clean both faces. 2 Coat the thread with {grease} grease. 3 Tighten with {tool} to {torque}. "
        f"4 Wait {wait} and check for leaks."
    )
    question = d.rng.choice(
        [
            (f"To what torque is the {part} tightened?", torque),
            (f"With which tool is the {part} tightened?", tool),
            (f"Which grease is used for the {part}?", grease),
            (f"How long does one wait after fitting the {part}?", wait),
        ]
    )
    return text, [question]


def letter(d: Draw, org: str) -> Block:
    who, ref, when, until = d.person(), d.code(), d.date(), d.date()
    other, money = (
        d.name("Mills", "Trust", "Brothers", "Institute", "Parish"),
        f"{d.number(90, 9000, 2)} {d.of('euros', 'pounds', 'dollars')}",
    )
    text = (
        f"{other} Our reference: {ref} {when} Dear Sir or Madam, thank you for your offer. We accept it at a "
        f"price of {money}, if the goods arrive by {until}. Yours faithfully, {who}"
    )
    question = d.rng.choice(
        [
            (f"Who signed the letter of {other}?", who),
            (f"Which reference does the letter of {other} carry?", ref),
            (f"What is the date of the letter from {other}?", when),
            (f"By which date does {other} want the goods?", until),
            (f"Which price does {other} accept?", money),
        ]
    )
    return text, [question]


def survey(d: Draw, org: str) -> Block:
    groups = {
        d.of("members", "tenants", "guests", "pupils", "drivers") + f" of {d.name()}": d.rng.randint(4, 97) for _ in range(3)
    }
    topic = d.of("the opening hours", "the new canteen", "the ticket price", "the website", "the noise at night")
    text = (
        f"Satisfied with {topic} "
        + " ".join(f"{name} {share} %" for name, share in groups.items())
        + f" Figure {d.rng.randint(1, 8)}."
    )
    name = d.rng.choice(list(groups))
    return text, [(f"What share of the {name} is satisfied with {topic}?", f"{groups[name]} %")]


def history(d: Draw, org: str) -> Block:
    place, founder, year = (
        d.name("Castle", "Foundry", "Garden", "Lighthouse", "Observatory", "Mill"),
        d.person(),
        d.rng.randint(1690, 1990),
    )
    height = f"{d.rng.randint(9, 140)} m"
    text = (
        f"{place} was founded in {year} by {founder}, who had come to {d.name()} as a "
        f"{d.of('surveyor', 'printer', 'doctor', 'miner')}. Its tower is {height} high."
    )
    question = d.rng.choice(
        [
            (f"Who founded {place}?", founder),
            (f"In which year was {place} founded?", str(year)),
            (f"How high is the tower of {place}?", height),
        ]
    )
    return text, [question]


BLOCKS: tuple[Callable[[Draw, str], Block], ...] = (
    table,
    table,
    specification,
    staff,
    depots,
    event,
    decision,
    faults,
    steps,
    letter,
    survey,
    history,
)


def pages(rng: random.Random) -> Iterator[tuple[str, str, list[Asked]]]:
    """File, words of a page, and what can be asked about it, page after page."""
    d = Draw(rng)
    for _ in range(FILES):
        org = d.name(
            "Water Board", "Instruments", "Council", "Railway", "Society", "Hospital", "Shipyard", "College", "Foods", "Energy"
        )
        title = d.of(
            "Annual Report", "Handbook", "Service Manual", "Minutes", "Catalogue", "Quarterly Review", "Guide", "Papers"
        )
        title = f"{title} {rng.randint(1996, 2030)}"
        file = f"{re.sub(r'[^a-z0-9]+', '-', f'{org} {title}'.lower())}.pdf"
        count = rng.randint(3, 9)
        for number in range(1, count + 1):
            blocks = [make(d, org) for make in rng.sample(BLOCKS, rng.randint(1, 3))]
            parts = [text for text, _ in blocks] + rng.sample(_FILLER, rng.randint(0, 3))
            rng.shuffle(parts)
            head = d.of(f"{org} {title} {number}", f"{title} {org} Page {number} of {count}", org, "")
            yield file, " ".join(f"{head} {' '.join(parts)}".split()), [asked for _, found in blocks for asked in found]


def page_records(rng: random.Random) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Passages and questions about them."""
    passages: list[dict[str, object]] = []
    questions: list[dict[str, object]] = []
    numbers: dict[str, int] = {}
    for file, text, found in pages(rng):
        numbers[file] = number = numbers.get(file, 0) + 1
        passages.append({"id": file, "text": text})
        for question, answer in found:
            record = {"question": question, "answers": [answer], "evidence": [f"{file}#p={number}"]}
            questions.append({"id": f"page-{len(questions)}", **record})
    rng.shuffle(questions)
    return passages, questions[:PAGES]


def sentence_records(path: Path, rng: random.Random) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """HotpotQA's training questions that come with gold sentences alone. A sentence is a passage by the name it begins with."""
    passages, questions = [], []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        record = json.loads(line)
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
            kept = {name: record[name] for name in ("id", "question", "answers")}
            questions.append({**kept, "evidence": evidence})
    rng.shuffle(questions)
    return passages, questions[:NEW]


def main(multihop: Path, out: Path) -> None:
    rng = random.Random(0)
    train = (multihop / "train_context.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    old = [line for line in train if json.loads(line)["dataset"] == "hotpotqa"]
    sentences, new = sentence_records(multihop / "gold_evidence_only.jsonl", rng)
    drawn, asked = page_records(rng)
    out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) for record in (*sentences, *drawn)]
    (out / "passages.jsonl").write_text("\n".join([*train, *lines, ""]), encoding="utf-8")
    lines = [*rng.sample(old, OLD), *(json.dumps(record, ensure_ascii=False) for record in (*new, *asked))]
    rng.shuffle(lines)
    (out / "qa.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
