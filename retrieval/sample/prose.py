"""The running text of the annual report. Figures come from the facts, never from here."""

from __future__ import annotations

from colsearcher.retrieval.sample import facts

GLANCE = (
    f"{facts.COMPANY} designs, builds and looks after buoys that measure waves, wind and currents along the coast. In 2025 "
    "harbours, wind farms and weather services relied on them for more reports than ever before, and a quiet autumn let "
    "the field crews catch up on overdue visits.",
)

OWNERS = (
    "Dear owners,",
    "When the founders bolted the first float together in a boat shed, they wrote one sentence on the wall: a buoy that "
    "is silent in a storm is only paint. We repeat it to every new colleague, because 2025 was a year of storms. "
    "Eleven of them crossed the outer banks, and our network kept talking through all of them.",
    "Customers noticed. Orders rose in three of four quarters, and for the first time more than half of them came "
    "with a service contract attached. Such contracts are dull to announce and pleasant to own: they fill the weeks "
    "in which nobody buys anything.",
    "Not everything went well. In the Grey Fjords the ice stayed "
    f"{facts.ICE_DELAY} longer than usual. Boats could not reach the stations, launches slipped into the next season, "
    "and revenue there fell. We have since moved a small ice-going launch to the region.",
    "We also withdrew the first Sandpiper, our lake buoy. It measured well, but two people could not lift it into a "
    "rowing boat, and that had been the whole idea. Its successor is on the drawing board, and lighter.",
    "The works themselves changed shape. A second assembly line started in May, and the old drying room became a "
    "calibration laboratory with a floor that does not shake when the ferry docks. Visitors are welcome to jump on it.",
    "We hired engineers faster than we have ever done. Some came from the shipyard across the bay, others from "
    "universities far inland, and one from a watchmaker. Field service grew as well, with a depot that had opened only "
    "the year before now fully staffed.",
    "For the coming year we expect steady growth, higher steel prices and at least one surprise. The order book covers "
    "seven months of work. The board proposes a modest increase of the dividend, and puts the rest into the works.",
    "Thank you for your patience, which is the rarest kind of capital.",
)

REGIONS = (
    "Four of the five regions grew. The Northern Skerries remained the largest market, helped by two wind farms that "
    "replaced buoys of another make. The Amber Coast recovered from a weak year, and the youngest depot paid off with "
    "new customers among the fish farms of the islands.",
)

INCOME = (
    "Gross profit grew faster than revenue because more floats now leave the mould without rework. Spending on "
    "research went up as planned, while administration was held nearly flat. Interest was lower as loans were repaid.",
)

INCOME_NOTES = (
    f"Includes an impairment of {facts.IMPAIRMENT} on unsold stock of the withdrawn Sandpiper 1 (2024: none).",
    "Development of the Plover 5 is expensed; nothing was capitalised in 2025 or 2024.",
    "The tax rate of the company is 23 per cent in both years; differences are due to depot licences abroad.",
)

CASH = (
    "Cash from operations paid for the second assembly line, for the dividend and for a large step in the repayment of "
    "debt. The peak of borrowing was reached when the works bought its slipway; since then debt has fallen each year. "
    "The loan agreements allow net debt of up to three times operating profit, and we are well inside that limit.",
)
DEBT_NOTE = "Leases of boats and vans count as debt with the sum of their remaining payments, without discount."

PEOPLE = (
    "The company ended the year with more people in nearly every function. Assembly gained a second shift, engineering "
    "a group for radio and antennas. Sales became slightly smaller when two offices were merged. One in nine "
    "colleagues is an apprentice or was one less than two years ago.",
)

SERVICE = (
    "Five depots keep the buoys at sea alive. Each has a workshop, a boat and a store of spare parts, and each plans "
    "its own visits. A depot looks after the buoys of its own waters, whatever the home port of the customer.",
)
SERVICE_AFTER = (
    "Contracts are invoiced quarterly. A visit within ten working days is promised to harbour authorities, within "
    "twenty to all others. Penalties for late visits were below one per cent of service revenue.",
)

BOARD = (
    "The board met nine times. It spent most of its hours on the second assembly line, on the plan up to 2028 and on "
    "the lessons of the withdrawn lake buoy. Two members were elected by the annual meeting, one by the employees.",
)

RISKS = (
    (
        "Ice and weather",
        "A late spring shortens the season in which buoys can be launched. We spread launches over more months and keep "
        "an ice-going launch ready in the north.",
    ),
    (
        "Supply of foam",
        "Closed-cell foam comes from a single mill. A second supplier has been tested and could deliver within ten weeks.",
    ),
    (
        "Radio licences",
        "Satellite operators may change frequencies. The antennas of all buoys since 2019 can be switched by software.",
    ),
    (
        "Loss at sea",
        "About one buoy in ninety breaks loose each year. Nine of ten are found again, most of them by fishermen, who "
        "receive a reward and a cap.",
    ),
)
