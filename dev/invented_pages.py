"""Pages of reports, manuals, timetables and letters that nobody wrote, each with questions whose answers stand on it.

A page is one line, as an index keeps its words: a head, some prose, tables whose cells follow each other. It is put together
from blocks, and each block comes with one question. All names and numbers are drawn; nothing of the sample corpus occurs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

FILES = 90

Asked = tuple[str, str]  # question, answer
Block = tuple[str, Asked]

_SYLLABLES = (
    "ban cor del fen gal hol ist jor kel lun mar nor ost pel quin ros sal tam ulf ver wen yar zel bry dun ash mere wick".split()
)
_GIVEN = (
    "Maud Otto Ines Pavel Ruth Samir Greta Luis Hanna Piotr Amara Viktor Noor Edwin Lucia Tomas Freya Idris Clara Bram".split()
)
_MONTHS = "January February March April May June July August September October November December".split()
_OWNERS = "Water Board, Instruments, Council, Railway, Society, Hospital, Shipyard, College, Foods, Energy".split(", ")
_TITLES = "Annual Report, Handbook, Service Manual, Minutes, Catalogue, Quarterly Review, Guide, Papers".split(", ")
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
_MEASURES = (
    ("Sales", "million euros"),
    ("Visitors", "thousands"),
    ("Output", "tonnes"),
    ("Costs", "thousand pounds"),
    ("Passengers", "thousands"),
    ("Revenue", "million dollars"),
    ("Energy used", "MWh"),
)
_ROLES = "Chair, Treasurer, Secretary, Head of audit, Managing director, Safety officer, Head of sales, Archivist".split(", ")
_FAULTS = (
    "Pump blocked, Door not closed, Sensor wet, Low pressure, Belt torn, Filter full, No signal, Fan stopped, Oil level low"
).split(", ")
_CURES = (
    "Clean the inlet, Close and lock it, Dry and test again, Refill to the mark, Fit a new belt, Change the filter, "
    "Check the aerial, Call the service, Top up the oil"
).split(", ")


@dataclass
class Draw:
    """Random names and numbers; no name twice. `org` is who issues the page."""

    rng: random.Random
    org: str = ""
    used: set[str] = field(default_factory=set)

    def name(self, *endings: str) -> str:
        while True:
            made = "".join(self.rng.choices(_SYLLABLES, k=self.rng.choice((2, 2, 3)))).capitalize()
            if endings:
                made += f" {self.rng.choice(endings)}"
            if made not in self.used:
                self.used.add(made)
                return made

    def person(self) -> str:
        return f"{self.rng.choice(_GIVEN)} {self.name()}"

    def number(self, low: float, high: float, digits: int = 0) -> str:
        return f"{self.rng.uniform(low, high):,.{digits}f}"

    def date(self) -> str:
        return f"{self.rng.randint(1, 28)} {self.rng.choice(_MONTHS)} {self.rng.randint(1994, 2031)}"

    def time(self) -> str:
        return f"{self.rng.randint(5, 22)}:{self.rng.randint(0, 59):02d}"

    def code(self) -> str:
        letters = "".join(self.rng.choices("ABCDEFGHKLMNPRSTVWX", k=self.rng.randint(1, 3)))
        return f"{letters}-{self.rng.randint(2, 9999)}"

    def of(self, *values: str) -> str:
        return self.rng.choice(values)


@dataclass(frozen=True)
class Form:
    """Prose with gaps. A gap in capitals is filled in capitals; `questions` are kept by the gap that answers them."""

    gaps: Mapping[str, Callable[[Draw], str]]
    text: str
    questions: Mapping[str, str]
    other_text: str = ""  # the same, said differently

    def draw(self, d: Draw) -> Block:
        filled = {gap: fill(d) for gap, fill in self.gaps.items()}
        text = d.of(self.text, self.other_text) if self.other_text else self.text
        gap, question = d.rng.choice(list(self.questions.items()))
        capitals = {gap.upper(): value.upper() for gap, value in filled.items()}
        return text.format(**filled, **capitals), (question.format(**filled), filled[gap])


EVENT = Form(
    gaps={
        "what": lambda d: d.of("ferry", "bus", "guided tour", "lecture", "night train", "cable car"),
        "place": Draw.name,
        "first": Draw.time,
        "last": Draw.time,
        "price": lambda d: f"{d.number(2, 40, 2)} {d.of('euros', 'pounds', 'crowns')}",
    },
    text="{PLACE} first {what} {first} last {what} {last} return ticket {price} children free",
    other_text="The first {what} to {place} leaves at {first} and the last one at {last}. A return ticket costs {price}.",
    questions={
        "first": "When does the first {what} to {place} leave?",
        "last": "At what time does the last {what} to {place} go?",
        "price": "What does a return ticket to {place} cost?",
    },
)
DECISION = Form(
    gaps={
        "org": lambda d: d.org,
        "building": lambda d: d.name("bridge", "library", "reservoir", "workshop", "tunnel", "school", "pier", "museum"),
        "amount": lambda d: f"{d.number(1, 80, 1)} million {d.of('euros', 'crowns', 'dollars')}",
        "decided": Draw.date,
        "leader": Draw.person,
        "done": lambda d: (
            f"{d.of('spring', 'summer', 'autumn', 'the fourth quarter', 'March', 'September')} {d.rng.randint(2012, 2032)}"
        ),
    },
    text="On {decided} the council approved {amount} for the {building}. {leader} is in charge of the work, "
    "which is to be finished in {done}.",
    other_text="{org} will spend {amount} on the {building}, as decided on {decided}. Completion is planned for {done}; "
    "{leader} leads the project.",
    questions={
        "amount": "How much is to be spent on the {building}?",
        "decided": "When was the money for the {building} decided on?",
        "leader": "Who is in charge of the {building}?",
        "done": "When is the {building} to be finished?",
    },
)
STEPS = Form(
    gaps={
        "part": lambda d: d.name("valve", "coupling", "bracket", "rotor", "hatch"),
        "tool": lambda d: d.of("a 13 mm spanner", "a hex key", "a torque wrench", "a soft mallet"),
        "torque": lambda d: f"{d.rng.randint(4, 90)} Nm",
        "grease": lambda d: f"{d.name()} {d.rng.randint(1, 99)}",
        "wait": lambda d: f"{d.rng.randint(2, 55)} minutes",
    },
    text="Fitting the {part} 1 Clean both faces. 2 Coat the thread with {grease} grease. 3 Tighten with {tool} to {torque}. "
    "4 Wait {wait} and check for leaks.",
    questions={
        "torque": "To what torque is the {part} tightened?",
        "tool": "With which tool is the {part} tightened?",
        "grease": "Which grease is used for the {part}?",
        "wait": "How long does one wait after fitting the {part}?",
    },
)
LETTER = Form(
    gaps={
        "signed": Draw.person,
        "reference": Draw.code,
        "written": Draw.date,
        "until": Draw.date,
        "sender": lambda d: d.name("Mills", "Trust", "Brothers", "Institute", "Parish"),
        "price": lambda d: f"{d.number(90, 9000, 2)} {d.of('euros', 'pounds', 'dollars')}",
    },
    text="{sender} Our reference: {reference} {written} Dear Sir or Madam, thank you for your offer. We accept it at a "
    "price of {price}, if the goods arrive by {until}. Yours faithfully, {signed}",
    questions={
        "signed": "Who signed the letter of {sender}?",
        "reference": "Which reference does the letter of {sender} carry?",
        "written": "What is the date of the letter from {sender}?",
        "until": "By which date does {sender} want the goods?",
        "price": "Which price does {sender} accept?",
    },
)
HISTORY = Form(
    gaps={
        "place": lambda d: d.name("Castle", "Foundry", "Garden", "Lighthouse", "Observatory", "Mill"),
        "founder": Draw.person,
        "year": lambda d: str(d.rng.randint(1690, 1990)),
        "height": lambda d: f"{d.rng.randint(9, 140)} m",
        "town": Draw.name,
        "trade": lambda d: d.of("surveyor", "printer", "doctor", "miner"),
    },
    text="{place} was founded in {year} by {founder}, who had come to {town} as a {trade}. Its tower is {height} high.",
    questions={
        "founder": "Who founded {place}?",
        "year": "In which year was {place} founded?",
        "height": "How high is the tower of {place}?",
    },
)


def in_line(rows: Iterable[Iterable[str]]) -> str:
    return " ".join(cell for row in rows for cell in row)


def table(d: Draw) -> Block:
    """Places by years or quarters."""
    what, unit = d.rng.choice(_MEASURES)
    kind = d.of("region", "site", "branch", "product line", "plant", "line")
    first = d.rng.randint(2009, 2027)
    columns = [str(first + n) for n in range(d.rng.randint(2, 4))]
    if d.rng.random() < 0.25:
        columns = ["Q1", "Q2", "Q3", "Q4"][: len(columns)]
    rows = [
        [
            d.name(*d.rng.choice(((), ("Bay", "Hill", "Valley", "Ridge", "Cross", "Park")))),
            *(d.number(2, 90, 1) for _ in columns),
        ]
        for _ in range(d.rng.randint(3, 5))
    ]
    caption = d.of(f"Table {d.rng.randint(1, 9)}. {what} by {kind}.", "")
    name, *cells = d.rng.choice(rows)
    column, cell = d.rng.choice(list(zip(columns, cells, strict=True)))
    question = d.of(
        f"What were the {what.lower()} of the {kind} {name} in {column}, in {unit}?",
        f"How high were {what.lower()} at {name} in {column} ({unit})?",
        f"In {unit}, what does {d.org} state as {what.lower()} of {name} for {column}?",
    )
    return f"{what} in {unit} {in_line([columns, *rows])} {caption}", (question, cell)


def specification(d: Draw) -> Block:
    model = f"{d.name()} {d.rng.randint(2, 900)}"
    low = d.rng.randint(1, 40)
    known = (
        ("Weight", f"{d.number(1, 900)} kg"),
        ("Voltage", f"{d.of('12', '24', '48', '110', '230', '400')} V"),
        ("Battery life", f"{d.number(3, 60)} hours"),
        ("Operating temperature", f"-{low} to {low + d.rng.randint(5, 50)} °C"),
        ("Housing", d.of("polyethylene", "stainless steel", "cast aluminium", "oak", "glass fibre", "brass")),
        ("Order number", d.code()),
        ("Accuracy", f"± {d.number(0.1, 5, 1)} %"),
        ("Fuse", f"{d.of('2', '4', '6.3', '10', '16')} A, slow"),
    )
    rows = d.rng.sample(known, 5)
    name, value = d.rng.choice(rows)
    question = d.of(
        f"What is the {name.lower()} of the {model}?",
        f"Which {name.lower()} does the data sheet give for the {model}?",
        f"What {name.lower()} does the {model} have?",
    )
    return f"{model} Technical data {in_line(rows)}", (question, value)


def staff(d: Draw) -> Block:
    rows = [(role, d.person()) for role in d.rng.sample(_ROLES, d.rng.randint(3, 5))]
    head = d.of("Board and officers", "Contacts", "Who is who", "Committee")
    order = 1 if d.rng.random() < 0.5 else -1
    role, person = d.rng.choice(rows)
    question = d.of(
        f"Who is the {role.lower()} of {d.org}?",
        f"Which person is {role.lower()} at {d.org}?",
        f"Who serves {d.org} as {role.lower()}?",
    )
    return f"{head} {in_line(row[::order] for row in rows)}", (question, person)


def depots(d: Draw) -> Block:
    thing = d.of("Staff", "Vehicles", "Beds", "Berths", "Machines", "Trees", "Seats", "Rooms")
    ending = d.of("Depot", "Station", "Hall", "Harbour", "Works", "Clinic", "Yard")
    rows = [(d.name(ending), d.name(), d.number(3, 400)) for _ in range(d.rng.randint(3, 5))]
    text = f"Place Manager {thing} {in_line(rows)}"
    place, manager, count = d.rng.choice(rows)
    if d.rng.random() < 0.3:
        return text, (f"Who is the manager of {place}?", manager)
    question = d.of(f"How many {thing.lower()} are there at {place}?", f"What number of {thing.lower()} does {place} have?")
    return text, (question, count)


def faults(d: Draw) -> Block:
    device = f"{d.name()} {d.rng.randint(1, 9)}"
    rows = [(d.code(), d.of(*_FAULTS), d.of(*_CURES)) for _ in range(d.rng.randint(3, 5))]
    text = f"{device} faults Code Meaning What to do {in_line(rows)}"
    code, fault, cure = d.rng.choice(rows)
    if d.rng.random() < 0.5:
        return text, (d.of(f"What does code {code} mean on the {device}?", f"What is the meaning of fault {code}?"), fault)
    return text, (d.of(f"What is to be done when the {device} shows {code}?", f"What is the remedy for fault {code}?"), cure)


def survey(d: Draw) -> Block:
    rows = [
        (f"{d.of('members', 'tenants', 'guests', 'pupils', 'drivers')} of {d.name()}", f"{d.rng.randint(4, 97)} %")
        for _ in range(3)
    ]
    topic = d.of("the opening hours", "the new canteen", "the ticket price", "the website", "the noise at night")
    text = f"Satisfied with {topic} {in_line(rows)} Figure {d.rng.randint(1, 8)}."
    group, share = d.rng.choice(rows)
    return text, (f"What share of the {group} is satisfied with {topic}?", share)


BLOCKS: tuple[Callable[[Draw], Block], ...] = (
    table,
    table,  # twice as often as the others
    specification,
    staff,
    depots,
    EVENT.draw,
    DECISION.draw,
    faults,
    STEPS.draw,
    LETTER.draw,
    survey,
    HISTORY.draw,
)


def pages(rng: random.Random) -> Iterator[tuple[str, int, str, list[Asked]]]:
    """File, page number, words of the page, and what can be asked about it, page after page."""
    d = Draw(rng)
    for _ in range(FILES):
        d.org = d.name(*_OWNERS)
        title = f"{d.of(*_TITLES)} {rng.randint(1996, 2030)}"
        file = re.sub(r"[^a-z0-9]+", "-", f"{d.org} {title}".lower()) + ".pdf"
        count = rng.randint(3, 9)
        for number in range(1, count + 1):
            blocks = [draw(d) for draw in rng.sample(BLOCKS, rng.randint(1, 3))]
            parts = [text for text, _ in blocks] + rng.sample(_FILLER, rng.randint(0, 3))
            rng.shuffle(parts)
            head = d.of(f"{d.org} {title} {number}", f"{title} {d.org} Page {number} of {count}", d.org, "")
            yield file, number, " ".join(" ".join([head, *parts]).split()), [asked for _, asked in blocks]
