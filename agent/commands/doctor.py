"""`colsearcher doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from colsearcher.agent.flags import option
from colsearcher.agent.terminal import show, show_json


@dataclass(frozen=True)
class Doctor:
    """Check this installation: one line per part; for each fault the cause and one command. Exit 1 if there is one."""

    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.agent.checks import run_checks

        checks = run_checks()
        faults = [check for check in checks if check.state == "fault"]
        if self.json:
            show_json({"ok": not faults, "checks": [asdict(check) for check in checks]})
            return 1 if faults else 0
        marks = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}
        for check in checks:
            show(f"{marks[check.state]}  {check.part:<22}{check.found}")
            if check.fix:
                show(f"       {'':<22}fix: {check.fix}")
        show(f"{len(faults)} faults" if faults else "all is well")
        return 1 if faults else 0
