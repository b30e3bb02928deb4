"""The questions on the sample corpus. Each answer is made from the facts and says where on which page it stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from colsearcher.retrieval.sample import facts
from colsearcher.retrieval.sample.facts import FLYER, LETTER, MANUAL, REPORT, SLIDES


@dataclass(frozen=True)
class Place:
    """Words on a page: `text`, the first one after the words `after`."""

    document: str
    page: int
    text: str
    after: str = ""


@dataclass(frozen=True)
class Question:
    """A question, its accepted answers, and the pages that are needed for it.

    Attributes:
        found: where the answer itself stands; `None` for a question that the corpus cannot answer.
        via: pages that are needed to reach it, as (document, page), in the order of the reasoning.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    found: Place | None
    via: tuple[tuple[str, int], ...] = field(default=())

    @property
    def evidence(self) -> tuple[tuple[str, int], ...]:
        """The pages that together answer the question."""
        return self.via if self.found is None else (*self.via, (self.found.document, self.found.page))


def _one(name: str, text: str, document: str, page: int, answer: str, *more: str, after: str = "") -> Question:
    """A question with one page, on which `answer` stands literally; `more` are other ways to write it."""
    return Question(name, text, (answer, *more), Place(document, page, answer, after))


def _crowns(amount: float) -> tuple[str, str]:
    return f"{amount:.1f}", f"{amount:.1f} million crowns"


def _reported() -> tuple[Question, ...]:
    lanterns = facts.REGIONS[2]
    research = abs(facts.INCOME[3][2])
    depot = facts.DEPOTS[2]
    debt = facts.NET_DEBT[2022]
    return (
        _one(
            "report-buoys",
            "How many buoys were in service at the end of 2025?",
            REPORT,
            2,
            f"{facts.BUOYS_IN_SERVICE:,}",
            f"{facts.BUOYS_IN_SERVICE}",
        ),
        _one("report-foam", "How much foam from old floats was recycled in 2025?", REPORT, 2, facts.RECYCLED),
        _one("report-ice", "How much longer than usual did the ice stay in the Grey Fjords?", REPORT, 3, facts.ICE_DELAY),
        _one(
            "report-lanterns",
            f"What was the revenue of the region {lanterns.name} in 2024, in million crowns?",
            REPORT,
            4,
            *_crowns(lanterns.revenue[1]),
            after=lanterns.name,
        ),
        _one(
            "report-orders",
            "What was the value of the orders received in the fourth quarter of 2025?",
            REPORT,
            4,
            *_crowns(facts.ORDERS_2025[3]),
        ),
        _one(
            "report-research",
            "How much was spent on research and development in 2024?",
            REPORT,
            5,
            *_crowns(research),
            after="Research and development",
        ),
        _one(
            "report-impairment",
            "What impairment on stock of the Sandpiper 1 is included in the cost of sales?",
            REPORT,
            5,
            facts.IMPAIRMENT,
        ),
        _one("report-debt", "How high was net debt at the end of 2022?", REPORT, 6, *_crowns(debt)),
        _one(
            "report-engineers",
            "How many employees worked in engineering at the end of 2025?",
            REPORT,
            7,
            str(facts.HEADCOUNT[1][1]),
            after="Engineering",
        ),
        _one(
            "report-age",
            "What share of the employees is aged 30 to 39?",
            REPORT,
            7,
            f"{facts.AGE_SHARES[1][1]} %",
            f"{facts.AGE_SHARES[1][1]} per cent",
        ),
        _one(
            "report-depot",
            f"How many technicians work at the depot {depot.name}?",
            REPORT,
            8,
            str(depot.technicians),
            after=depot.region,
        ),
        _one("report-audit", "Who chairs the audit committee of the board?", REPORT, 9, facts.BOARD[1][0]),
    )


def _explained() -> tuple[Question, ...]:
    fault, spare = facts.FAULTS[7], facts.SPARES[0]
    wire = facts.WIRES[3]
    return (
        _one(
            "manual-number",
            f"Which document number does the field manual of the {facts.PRODUCT} carry?",
            MANUAL,
            1,
            facts.MANUAL_NUMBER,
        ),
        _one(
            "manual-wait",
            "How long must the crew wait after switching the buoy off before opening the hatch?",
            MANUAL,
            2,
            facts.BATTERY_WAIT,
        ),
        _one("manual-part", "Which part of the buoy has the number 6 in the overview drawing?", MANUAL, 3, facts.PARTS[5][0]),
        _one(
            "manual-wave",
            f"What range of significant wave height can the {facts.PRODUCT} measure?",
            MANUAL,
            4,
            facts.SPECIFICATION[0][2],
        ),
        _one("manual-shackle", "With which shackle is the chain joined to the swivel?", MANUAL, 5, facts.SHACKLE),
        _one("manual-wire", f"What colour is the wire on pin {wire[0]} of connector X2?", MANUAL, 6, wire[2]),
        _one(
            "manual-height",
            f"What is the overall height of the {facts.PRODUCT} in the dimension drawing?",
            MANUAL,
            6,
            facts.HEIGHT_MM,
        ),
        _one(
            "manual-lamp",
            "What does it mean when the amber lamp at the hatch blinks slowly?",
            MANUAL,
            7,
            facts.LAMPS[1][1].split(";")[0],
            after=facts.LAMPS[1][0],
        ),
        _one("manual-fault", f"What is the meaning of error code {fault.code}?", MANUAL, 8, fault.meaning),
        _one("manual-anode", "How often are the zinc anodes replaced?", MANUAL, 9, spare.interval, after=spare.name),
    )


def _looked_at() -> tuple[Question, ...]:
    """Questions on the scan, the slides and the flyer."""
    station, plan = facts.STATIONS[0], facts.ROADMAP[2]
    hall = facts.INVESTMENTS[0]
    return (
        _one(
            "letter-deadline", f"By which date does the {facts.HARBOUR} want the repair finished?", LETTER, 1, facts.REPAIR_BY
        ),
        _one("letter-signature", f"Who signed the letter of the {facts.HARBOUR}?", LETTER, 1, facts.HARBOUR_MASTER),
        _one(
            "letter-stamp",
            "Which date is on the red stamp that says the letter was received?",
            LETTER,
            1,
            facts.RECEIVED,
            "9 April 2026",
        ),
        _one("letter-serial", f"What is the serial number of the buoy at station {station.name}?", LETTER, 2, station.serial),
        _one(
            "slides-survey",
            "What share of customers is satisfied that invoices are clear in the survey of 2026?",
            SLIDES,
            2,
            f"{facts.SATISFACTION[3][1]} %",
            f"{facts.SATISFACTION[3][1]} per cent",
        ),
        _one(
            "slides-target",
            "Which revenue does the strategy plan for 2027?",
            SLIDES,
            3,
            str(facts.TARGETS[2027]),
            f"{facts.TARGETS[2027]} million crowns",
        ),
        _one("slides-plover", f"When will the {plan[0]} first be delivered to customers?", SLIDES, 5, plan[1], after=plan[0]),
        _one("slides-depot", f"When does the new depot {facts.NEW_DEPOT} open?", SLIDES, 6, facts.NEW_DEPOT_OPENS),
        _one(
            "slides-market",
            "What share of all coastal buoys in service does Ottermere have?",
            SLIDES,
            7,
            f"{facts.MARKET[0][1]} %",
            f"{facts.MARKET[0][1]} per cent",
        ),
        _one("slides-hall", "How much is to be invested in the new paint hall?", SLIDES, 8, *_crowns(hall[1]), after=hall[0]),
        _one("flyer-pier", "From which pier does the free ferry to the open day leave?", FLYER, 1, facts.FERRY_PIER),
        _one("flyer-last", "At what time does the last ferry go back from the open day?", FLYER, 1, facts.LAST_FERRY),
    )


def _combined() -> tuple[Question, ...]:
    fault = next(f for f in facts.FAULTS if f.code == facts.LETTER_FAULT)
    spare = next(s for s in facts.SPARES if s.number in fault.remedy)
    contract = facts.letter_contract()
    chain = facts.mooring_for(facts.BAD_STATION.depth_m)
    depth = f"{chain[0]} to {chain[1]} m"
    region = next(r for r in facts.REGIONS if r.name == facts.NEW_DEPOT_REGION)
    closing = facts.CLOSING_DEPOT
    torque = f"{spare.torque_nm} Nm"
    return (
        Question(
            "both-fault",
            f"The {facts.HARBOUR} complains about a faulty buoy at station {facts.BAD_STATION.name}: what remedy does "
            f"the table of error codes in the {facts.PRODUCT} manual give for the error code in the letter?",
            (fault.remedy.rstrip("."), f"Replace {spare.number} and its seal"),
            Place(MANUAL, 8, fault.remedy.rstrip("."), after=fault.code),
            ((LETTER, 1),),
        ),
        Question(
            "both-contract",
            f"What is the value a year, in thousand crowns, of the service contract that the {facts.HARBOUR} names in "
            "its letter?",
            (f"{contract.value:,}", f"{contract.value} thousand crowns"),
            Place(REPORT, 8, f"{contract.value:,}", after=contract.number),
            ((LETTER, 1),),
        ),
        Question(
            "both-chain",
            "Which chain length does the manual's mooring table give for the depth of water at station "
            f"{facts.BAD_STATION.name} in the list of stations?",
            (f"{chain[2]} m", f"{chain[2]} metres"),
            Place(MANUAL, 5, f"{chain[2]} m", after=depth),
            ((LETTER, 2),),
        ),
        Question(
            "both-region",
            f"What revenue did the region where the new depot {facts.NEW_DEPOT} opens have in 2025, in million crowns?",
            _crowns(region.revenue[2]),
            Place(REPORT, 4, f"{region.revenue[2]:.1f}", after=region.name),
            ((SLIDES, 6),),
        ),
        Question(
            "both-closing",
            "How many technicians work at the depot that the strategy closes at the end of 2027?",
            (str(closing.technicians),),
            Place(REPORT, 8, str(closing.technicians), after=f"{closing.opened}"),
            ((SLIDES, 4),),
        ),
        Question(
            "both-torque",
            f"With which torque is the spare part tightened that the remedy of error code {fault.code} tells you to replace?",
            (torque,),
            Place(MANUAL, 9, torque, after=spare.number),
            ((MANUAL, 8),),
        ),
    )


ANSWERABLE = (*_reported(), *_explained(), *_looked_at(), *_combined())

UNANSWERABLE = tuple(
    Question(name, text, ("Not answerable",), None)
    for name, text in (
        ("none-revenue", f"What was the revenue of the region {facts.REGIONS[2].name} in 2019?"),
        ("none-price", f"What is the list price of one {facts.PRODUCT} measuring buoy?"),
        ("none-code", "What is the meaning of error code E-88?"),
        ("none-bank", "Which bank gave the company the loans that it is repaying?"),
        ("none-serial", "What is the serial number of the buoy at station Heron Shoal?"),
        ("none-visitors", "How many visitors came to the open day of the works in 2025?"),
    )
)
_DOCUMENTS = {"none-revenue": REPORT, "none-price": MANUAL, "none-code": MANUAL, "none-bank": REPORT}
_DOCUMENTS |= {"none-serial": LETTER, "none-visitors": FLYER}


def document_of(question: Question) -> str:
    """The document a question is filed under: that of its first evidence page, or the one where a reader would look."""
    return question.evidence[0][0] if question.evidence else _DOCUMENTS[question.id]
