"""The parts of an installation, each looked at on its own, so that one fault does not hide the next."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from colsearcher.indexes.errors import ColSearcherError

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Check:
    """What was found of one part. "note" is worth knowing and stops nothing that the default needs."""

    part: str
    state: State
    found: str
    fix: str = ""


def run_checks() -> list[Check]:
    """All parts in order."""
    return [check for part in _PARTS for check in part()]


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036
        yield Check("python", "fault", f"{version}; 3.11 or newer is needed", "make setup PYTHON=python3.11")
    else:
        yield Check("python", "ok", f"{version} at {sys.executable}")


def _sqlite() -> Iterator[Check]:
    import sqlite3

    options = {row[0] for row in sqlite3.connect(":memory:").execute("PRAGMA compile_options")}
    if "ENABLE_FTS5" not in options or sqlite3.sqlite_version_info < (3, 38):
        yield Check(
            "sqlite", "fault", f"{sqlite3.sqlite_version} without FTS5 or older than 3.38", "use another build of Python"
        )
    else:
        yield Check("sqlite", "ok", f"{sqlite3.sqlite_version} with FTS5")


def _torch() -> Iterator[Check]:
    """torch and torchvision of different builds import one by one and fail together, hence the separate process."""
    torch, vision = _version("torch"), _version("torchvision")
    if torch is None:
        yield Check("torch", "fault", "not installed", "make setup")
        return
    probe = subprocess.run(
        [sys.executable, "-c", "import torch, torchvision; torchvision.ops.nms"], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        reason = probe.stderr.strip().splitlines()[-1] if probe.stderr.strip() else f"exit code {probe.returncode}"
        yield Check("torch", "fault", torch_fault(torch, vision, reason), "make setup")
        return
    yield Check("torch", "ok", f"{torch}, torchvision {vision} of the same build")


def torch_fault(torch: str, vision: str | None, reason: str) -> str:
    """One sentence on a torch that does not import beside torchvision."""
    if "torchvision::nms" in reason:
        return f"torch {torch} and torchvision {vision} are of different builds (CPU and CUDA), so transformers cannot start"
    return f"torch {torch} with torchvision {vision} does not import: {reason}"


def _gpu() -> Iterator[Check]:
    if _version("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        yield Check("gpu", "ok", f"{name}, {torch.cuda.get_device_properties(0).total_memory / 1e9:.0f} GB")
    else:
        bf16 = "bf16 instructions" if torch.cpu._is_avx512_bf16_supported() else "no bf16 instructions (float32 is used)"
        yield Check("gpu", "note", f"none; the embedded default runs on {os.cpu_count()} CPU cores with {bf16}")


def _faiss() -> Iterator[Check]:
    cpu, gpu = _version("faiss-cpu"), _version("faiss-gpu")
    if cpu and gpu:
        yield Check(
            "faiss", "fault", "faiss-cpu and faiss-gpu are both installed and overwrite one another", "pip uninstall faiss-cpu"
        )
    elif cpu or gpu:
        yield Check("faiss", "ok", f"faiss-cpu {cpu}" if cpu else f"faiss-gpu {gpu}")
    else:
        yield Check("faiss", "note", "not installed; the exact scan does not need it", 'uv pip install "colsearcher[cpu]"')


def _poppler() -> Iterator[Check]:
    if shutil.which("pdftoppm"):
        yield Check("poppler", "ok", shutil.which("pdftoppm") or "")
    else:
        yield Check("poppler", "note", "not installed; only --renderer poppler needs it", "apt-get install poppler-utils")


def _weights() -> Iterator[Check]:
    from colsearcher.agent.embedded_policy import EMBEDDED
    from colsearcher.retrieval import minilm, ocr

    for pinned in (minilm.WEIGHTS, minilm.TOKENIZER, *ocr.WEIGHTS, *EMBEDDED.values()):
        try:
            pinned.checked()
        except ColSearcherError as error:
            yield Check(pinned.title, "fault", str(error), "make setup")
        else:
            yield Check(pinned.title, "ok", f"sha256 {pinned.sha256[:12]}… as pinned")


def _cache() -> Iterator[Check]:
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("colsearcher", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Check("cache", "fault", f"{folder} cannot be written ({error.strerror})", f"chmod u+rwx {folder}")
        return
    yield Check("cache", "ok", f"{folder}, {shutil.disk_usage(folder).free / 1e9:.0f} GB free")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


_PARTS: tuple[Callable[[], Iterator[Check]], ...] = (
    _python,
    _sqlite,
    _torch,
    _gpu,
    _faiss,
    _poppler,
    _weights,
    _cache,
)
