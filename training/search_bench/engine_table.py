"""Who is measured, at which sizes, and with what: one line per row of the bench."""

from __future__ import annotations

from dataclasses import dataclass, field

ALL = ("small", "10k", "50k", "100k")
TORCH, FAST_PLAID = "torch fp32 exact", "fast-plaid"


@dataclass(frozen=True)
class EngineRow:
    """One row.

    Attributes:
        name: what the table calls it.
        module: its file in `engines/`.
        options: arguments of the module's `Engine`.
        peer: whose environment it runs in, None for the project's own.
        presets: the sizes that it is a row of.
        memory: estimated bytes of memory for each page vector.
        index: folder of its index; rows may share one.
        reuse: open the index of a run before, with the time that it took to build then.
        minutes: of build and queries together, at most.
        ours: a configuration of this project.
    """

    name: str
    module: str
    options: dict[str, object] = field(default_factory=dict)
    peer: str | None = None
    presets: tuple[str, ...] = ALL
    memory: int = 0
    index: str = ""
    reuse: bool = False
    minutes: int = 40
    ours: bool = False


def _fast_plaid(name: str, probes: int) -> EngineRow:
    """Rows over one index, whose build is mostly k-means: at 4 million vectors it takes two cores half an hour."""
    options: dict[str, object] = {"n_ivf_probe": probes}
    return EngineRow(name, "fast_plaid_index", options, peer="fast-plaid", memory=1_200, index="plaid", reuse=True, minutes=60)


def _ours(name: str, codec: str, originals: bool, presets: tuple[str, ...] = ("small", "10k")) -> EngineRow:
    options: dict[str, object] = {"codec": codec, "originals": originals}
    return EngineRow(f"colsearcher {name}", "colsearcher_index", options, presets=presets, index=name, ours=True)


PEERS = (
    EngineRow(TORCH, "torch_exact"),
    EngineRow("torch int8", "torch_int8", presets=("small", "10k"), memory=140),
    EngineRow("numpy fp32", "numpy_exact", presets=("small",), memory=600),
    EngineRow("colpali-engine", "colpali_scores", peer="colpali-engine", memory=560),
    EngineRow("maxsim-cpu", "maxsim_cpu_scan", peer="maxsim-cpu", memory=560),
    EngineRow("NumKong maxsim f16", "numkong_maxsim", peer="numkong", memory=560),
    EngineRow("NumKong dots f16", "numkong_dots", {"dtype": "f16"}, peer="numkong", presets=("small", "10k"), memory=280),
    EngineRow("NumKong dots i8", "numkong_dots", {"dtype": "i8"}, peer="numkong", presets=("small", "10k"), memory=420),
    _fast_plaid(FAST_PLAID, 8),
    _fast_plaid("fast-plaid, 4 probes", 4),
)
OURS = (
    _ours("fp16", "fp16", False),
    _ours("int8+originals", "int8", True),
    _ours("4bit+originals", "4bit", True),
    _ours("2bit+originals", "2bit", True, ALL),
    _ours("1bit+originals", "1bit", True),
    _ours("4bit", "4bit", False, ALL),
    _ours("2bit", "2bit", False, ALL),
)


def rows_of(preset: str) -> list[EngineRow]:
    """The rows of a preset's table, in order; ours last."""
    return [row for row in (*PEERS, *OURS) if preset in row.presets]
