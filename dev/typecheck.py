"""mypy over the four rooms under their real names, `colsearcher.<room>`.

    python dev/typecheck.py

The folders are mapped to the package by setuptools, which mypy does not read; links under build/ show it the same tree.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("retrieval", "indexes", "agent", "training")


def main() -> int:
    package = ROOT / "build" / "typecheck" / "colsearcher"
    package.mkdir(parents=True, exist_ok=True)
    for room in ROOMS:
        if not (package / room).is_symlink():
            (package / room).symlink_to(ROOT / room)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "colsearcher"]
    return subprocess.run(command, cwd=package.parent, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
