"""What searches compute with on this machine: the processor, or a GPU where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.kernels import cpu
from colsearcher.indexes.maxsim import Scan
from colsearcher.indexes.planner import memory_bytes


@dataclass(frozen=True)
class Engines:
    """A device and its scan.

    Attributes:
        device: "cpu" or a CUDA device.
        memory_bytes: what it holds.
        scan: scores of stored pages; see `kernels.cpu.scan`.
    """

    device: str
    memory_bytes: int
    scan: Scan


def load_engines(device: str = "auto") -> Engines:
    """The engines of a device; "auto" takes a GPU where the machine has a driver for one.

    Raises:
        UserError: a GPU was asked for and there is none.
    """
    if device == "cpu" or (device == "auto" and not Path("/proc/driver/nvidia").exists()):
        return Engines("cpu", memory_bytes(), cpu.scan)
    from colsearcher.indexes.kernels.gpu import DeviceScanner, available

    if not available():
        if device == "auto":
            return Engines("cpu", memory_bytes(), cpu.scan)
        raise UserError(f"There is no device «{device}» that torch can use here; leave --device out, or say --device cpu.")
    scanner = DeviceScanner("cuda" if device == "auto" else device)
    return Engines(scanner.device, scanner.budget_bytes, scanner.scan)
