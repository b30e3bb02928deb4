"""An environment of its own for each peer, because their pins exclude one another's and ours. Made by uv at first use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# What each peer is measured at; what they need beyond this is theirs to pin.
PINS: dict[str, tuple[str, ...]] = {
    "colpali-engine": ("colpali-engine==0.3.18", "torch==2.13.0", "transformers==5.19.0"),
    "maxsim-cpu": ("maxsim-cpu==0.1.0", "numpy==2.4.6"),
    "numkong": ("numkong==7.8.6", "numpy==2.4.6"),
    "fast-plaid": ("fast-plaid==1.7.0.2110", "torch==2.11.0", "fastkmeans==0.5.0", "numpy==2.4.6"),
}
MINUTES = 20


class NoEnvironment(Exception):
    """A peer cannot be installed; the message says why."""


def python_of(peer: str, out: Path, tell: Callable[[str], None]) -> Path:
    """The interpreter of a peer's environment under `out`, made where it is missing or was made with other pins.

    Raises:
        NoEnvironment: uv is missing, or it cannot install the peer.
    """
    folder = out / "envs" / peer
    ready, python = folder / "pins.txt", folder / "bin" / "python"
    if ready.exists() and ready.read_text().split() == list(PINS[peer]):
        return python.absolute()
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise NoEnvironment("uv, which makes its environment, is not installed")
    tell(f"installing {', '.join(PINS[peer])}")
    shutil.rmtree(folder, ignore_errors=True)
    _run(uv, "venv", "-q", "--python", sys.executable, str(folder))
    _run(uv, "pip", "install", "-q", "--compile-bytecode", "-p", str(python), *PINS[peer])
    ready.write_text("\n".join(PINS[peer]))
    return python.absolute()


def _run(*command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        raise NoEnvironment(f"its installation takes more than {MINUTES} minutes") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise NoEnvironment(f"its installation failed: {lines[0] if lines else 'uv says no more'}")
