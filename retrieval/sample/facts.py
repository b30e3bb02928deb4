"""What is true in the sample corpus. Drawings and questions both read it from here, so they cannot disagree.

The Ottermere Buoy Works, its coast, its people and its crowns do not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

COMPANY = "Ottermere Buoy Works"
CHIEF_EXECUTIVE = "Marit Oakvane"

REPORT = "annual-report-2025.pdf"
MANUAL = "field-manual.pdf"
LETTER = "letter-scan.pdf"
SLIDES = "strategy-slides.pdf"
FLYER = "open-day.png"


@dataclass(frozen=True)
class Region:
    """Revenue in million crowns for 2023, 2024 and 2025."""

    name: str
    revenue: tuple[float, float, float]


REGIONS = (
    Region("Northern Skerries", (38.2, 41.7, 46.9)),
    Region("Amber Coast", (29.4, 27.8, 31.6)),
    Region("Lantern Isles", (17.1, 19.6, 24.3)),
    Region("Grey Fjords", (22.5, 24.9, 23.7)),
    Region("Inland Lakes", (9.8, 11.2, 12.8)),
)
REVENUE = (
    round(sum(region.revenue[0] for region in REGIONS), 1),
    round(sum(region.revenue[1] for region in REGIONS), 1),
    round(sum(region.revenue[2] for region in REGIONS), 1),
)
ORDERS_2024 = (31.0, 28.4, 33.9, 30.2)
ORDERS_2025 = (34.6, 36.1, 29.7, 41.5)

# (line, 2025, 2024, note); costs are negative, sums are marked by the drawing.
INCOME = (
    ("Revenue", REVENUE[2], REVENUE[1], ""),
    ("Cost of sales", -78.6, -72.4, "1"),
    ("Gross profit", 60.7, 52.8, ""),
    ("Research and development", -14.2, -11.9, "2"),
    ("Selling and administration", -25.3, -24.1, ""),
    ("Operating profit", 21.2, 16.8, ""),
    ("Net finance cost", -2.4, -2.9, ""),
    ("Profit before tax", 18.8, 13.9, ""),
    ("Income tax", -4.3, -3.2, "3"),
    ("Net profit", 14.5, 10.7, ""),
)
IMPAIRMENT = "0.8 million crowns"
NET_DEBT = {2020: 44.1, 2021: 46.8, 2022: 42.3, 2023: 39.9, 2024: 37.2, 2025: 31.5}
CASH_FLOW = {"Free cash flow": (9.6, 6.1), "Capital expenditure": (11.8, 8.6), "Dividend paid": (3.9, 3.4)}

# (function, end of 2025, end of 2024)
HEADCOUNT = (
    ("Assembly", 228, 212),
    ("Engineering", 113, 96),
    ("Field service", 81, 74),
    ("Sales", 46, 48),
    ("Administration", 41, 39),
)
AGE_SHARES = (("under 30", 18), ("30 to 39", 31), ("40 to 49", 27), ("50 to 59", 17), ("60 and over", 7))


@dataclass(frozen=True)
class Depot:
    name: str
    region: str
    opened: int
    technicians: int
    buoys: int


DEPOTS = (
    Depot("Fennel Quay", "Amber Coast", 2009, 15, 533),
    Depot("Gull Point", "Inland Lakes", 2011, 13, 640),
    Depot("Saltmarsh Bay", "Northern Skerries", 2016, 22, 815),
    Depot("Hollow Head", "Grey Fjords", 2019, 19, 702),
    Depot("Candle Rock", "Lantern Isles", 2024, 12, 388),
)
BUOYS_IN_SERVICE = sum(depot.buoys for depot in DEPOTS)
ON_TIME = "94.2 %"
REPORTS_SENT = "26.1 million"
RECYCLED = "71 tonnes"
ICE_DELAY = "seven weeks"


@dataclass(frozen=True)
class Contract:
    """A service contract; `value` is thousand crowns a year."""

    number: str
    customer: str
    buoys: int
    until: int
    value: int


CONTRACTS = (
    Contract("OBW-1874", "Offshore wind farm", 96, 2029, 2150),
    Contract("OBW-2036", "Research institute", 41, 2027, 985),
    Contract("OBW-2219", "Harbour authority", 38, 2026, 720),
    Contract("OBW-2291", "Harbour authority", 7, 2028, 158),
    Contract("OBW-2308", "Fish farm", 57, 2030, 1310),
    Contract("OBW-2345", "Weather service", 112, 2029, 2480),
)

# (name, role, committee, meetings attended)
BOARD = (
    ("Ilse Brambleby", "Chair of the board", "Nomination (chair)", "9 of 9"),
    ("Petra Lowmarsh", "Independent member", "Audit (chair)", "9 of 9"),
    ("Corin Ashwhistle", "Independent member", "Audit", "8 of 9"),
    ("Dagny Pellworth", "Independent member", "Pay (chair)", "7 of 9"),
    ("Jory Wickett-Dunn", "Elected by employees", "Pay", "9 of 9"),
)

PRODUCT = "Plover 4"
MANUAL_NUMBER = "FM-P4-07"

# Parts of the buoy by the number that stands in the overview drawing: (name, what it does)
PARTS = (
    ("Flashing light", "Yellow, five flashes every 20 seconds; visible for 3 nautical miles."),
    ("Satellite antenna", "Sends a report each hour and receives the time."),
    ("Wind sensor", "Ultrasonic, no moving parts; do not paint."),
    ("Solar panels", "Four panels of 40 W on the faces of the tower."),
    ("Hatch", "Opens the electronics housing; eight M8 screws."),
    ("Pressure relief valve", "Vents the battery bay; must never be covered."),
    ("Float", "Closed-cell foam with a polyurethane skin."),
    ("Load cell", "Measures the pull of the mooring line."),
    ("Zinc anode", "Protects the frame against corrosion."),
)

SPECIFICATION = (
    ("Measurement", "Wave height, significant", "0.2 to 14 m"),
    ("", "Wave period", "1.6 to 30 s"),
    ("", "Wind speed", "0 to 60 m/s"),
    ("", "Water temperature", "-4 to 38 °C"),
    ("Energy", "Battery capacity", "420 Ah at 12 V"),
    ("", "Solar power", "4 panels of 40 W"),
    ("", "Operation without sun", "62 days"),
    ("Body", "Weight without mooring", "186 kg"),
    ("", "Reserve buoyancy", "245 kg"),
    ("", "Permitted current", "up to 3.5 m/s"),
    ("Data", "Report interval", "10 to 180 minutes"),
    ("", "Memory", "3.2 million records"),
    ("", "Position accuracy", "2.5 m"),
)

# (from depth, to depth, chain length, chain diameter mm, sinker kg)
MOORINGS = (
    (8, 20, 45, 16, 450),
    (21, 35, 70, 16, 600),
    (36, 50, 95, 19, 800),
    (51, 75, 140, 19, 1100),
    (76, 110, 205, 22, 1500),
)
SHACKLE = "22 mm bow shackle"

WIRES = (
    (1, "Battery plus", "red", "2.5"),
    (2, "Battery minus", "black", "2.5"),
    (3, "Solar input", "yellow", "1.5"),
    (4, "Load cell signal", "violet", "0.5"),
    (5, "Load cell supply", "orange", "0.5"),
    (6, "Light", "white", "1.0"),
    (7, "Antenna data", "green", "0.5"),
    (8, "Shield", "grey", "0.5"),
)
HEIGHT_MM = "2,340 mm"
WIDTH_MM = "1,240 mm"
DRAUGHT_MM = "650 mm"

LAMPS = (
    ("Green, steady", "Self-test passed; the buoy may be launched."),
    ("Amber, slow blinking", "Searching for satellites; wait up to six minutes."),
    ("Amber, fast blinking", "Battery below 11.4 V; charge before launching."),
    ("Red, slow blinking", "Memory full; read out the records."),
    ("Red, fast blinking", "Fault; read the code with the service key."),
)


@dataclass(frozen=True)
class Fault:
    code: str
    meaning: str
    remedy: str


FAULTS = (
    Fault("E-11", "Battery voltage too low", "Clean the solar panels; charge to 13.2 V."),
    Fault("E-14", "Charge controller overheated", "Shade the housing; wait until it is below 50 °C."),
    Fault("E-23", "No satellite contact for 24 hours", "Check the antenna plug; replace antenna P4-204."),
    Fault("E-31", "Compass disturbed", "Remove steel tools within 2 m and calibrate again."),
    Fault("E-37", "Load cell out of range", "Replace load cell P4-118 and its seal."),
    Fault("E-38", "Load cell not connected", "Check pins 4 and 5 of connector X2."),
    Fault("E-45", "Wind sensor blocked", "Remove ice or bird nests; rinse with fresh water."),
    Fault("E-52", "Moisture in the electronics housing", "Dry the housing; replace hatch seal P4-131."),
    Fault("E-60", "Light dimmer than required", "Clean the lens; replace light P4-209."),
)


@dataclass(frozen=True)
class Spare:
    number: str
    name: str
    torque_nm: int
    interval: str


SPARES = (
    Spare("P4-112", "Zinc anode, 3 kg", 18, "every 18 months"),
    Spare("P4-118", "Load cell, 25 kN", 46, "when faulty"),
    Spare("P4-131", "Hatch seal", 12, "every 24 months"),
    Spare("P4-140", "Battery block", 9, "every 5 years"),
    Spare("P4-204", "Satellite antenna", 6, "when faulty"),
    Spare("P4-209", "Flashing light", 8, "every 6 years"),
    Spare("P4-305", "Mooring swivel", 65, "every 36 months"),
)
BATTERY_WAIT = "15 minutes"

HARBOUR = "Hollow Head Harbour Board"
HARBOUR_MASTER = "Ansel Thornquay"
LETTER_DATE = "2 April 2026"
RECEIVED = "9 APR 2026"
REPAIR_BY = "14 May 2026"
LETTER_CONTRACT = CONTRACTS[3].number
LETTER_FAULT = FAULTS[4].code


@dataclass(frozen=True)
class Station:
    name: str
    serial: str
    depth_m: int
    last_service: str


STATIONS = (
    Station("Inner Bar", "P4-20817", 14, "June 2025"),
    Station("Cormorant Ledge", "P4-20822", 27, "June 2025"),
    Station("Sunken Bell", "P4-20835", 43, "August 2025"),
    Station("North Fairway", "P4-20841", 18, "May 2025"),
    Station("Widow Shoal", "P4-20856", 61, "August 2025"),
    Station("Ferry Bend", "P4-20863", 11, "September 2025"),
    Station("Old Mole", "P4-20870", 9, "September 2025"),
)
BAD_STATION = STATIONS[2]

TARGETS = {2025: REVENUE[2], 2026: 151, 2027: 168, 2028: 190}
MARKET = (
    ("Ottermere", 34),
    ("Brine & Beacon", 26),
    ("Kestrel Marine", 19),
    ("Tidewright", 12),
    ("Others", 9),
)
ROADMAP = (
    ("Plover 4S", "Q3 2026", "Ice kit and heated antenna"),
    ("Heron gateway", "Q1 2027", "Links 40 buoys by radio"),
    ("Plover 5", "Q4 2027", "Half the weight, same range"),
    ("Sandpiper 2", "Q2 2028", "Lake buoy for one person"),
)
INVESTMENTS = (
    ("New paint hall", 6.5, "2026"),
    ("Sixth depot, with boat", 4.2, "2026"),
    ("Wave tank", 8.9, "2027"),
    ("Service vessel", 12.4, "2027-2028"),
    ("Order software", 3.1, "2026"),
)
NEW_DEPOT = "Wick Harbour"
NEW_DEPOT_REGION = "Lantern Isles"
NEW_DEPOT_OPENS = "September 2026"
CLOSING_DEPOT = DEPOTS[1]
SATISFACTION = (("Delivery on time", 81), ("Repair within a week", 64), ("Data quality", 93), ("Clear invoices", 72))

OPEN_DAY = "Saturday 20 June 2026"
FERRY_PIER = "Pier 3"
LAST_FERRY = "17:40"


def mooring_for(depth_m: int) -> tuple[int, int, int, int, int]:
    """The row of the mooring table that covers a depth."""
    return next(row for row in MOORINGS if row[0] <= depth_m <= row[1])


def letter_contract() -> Contract:
    return next(contract for contract in CONTRACTS if contract.number == LETTER_CONTRACT)


def growth(values: tuple[float, float, float]) -> float:
    """Change of the last year against the one before, in per cent.

    >>> growth((1.0, 2.0, 2.5))
    25.0
    """
    return (values[2] / values[1] - 1) * 100
