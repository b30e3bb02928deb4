"""Intel's matrix tiles (AMX) for the compiled kernels. Only compile what uses this where `available` is true.

Tiles are named by number, 16 rows of 64 bytes each. A thread loads `TILE_CONFIG` before it uses them and lets go after.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types

from colsearcher.indexes.kernels.vector_ops import I8, I64, VOID, declare, intrinsic, returning_nothing

# Linux lends the tiles' registers to a process that asks (arch_prctl).
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
_COMPILER: Any = numba.config
_A = types.intp


def _tile_config() -> np.ndarray:
    config = np.zeros(64, dtype=np.uint8)
    config[0] = 1  # palette
    config[16:32].view(np.uint16)[:] = 64  # bytes of a row, of each of 8 tiles
    config[48:56] = 16  # rows
    return config


TILE_CONFIG = _tile_config()


@functools.cache
def available() -> bool:
    """Whether this processor has tiles for int8 and bfloat16, numba compiles for it, and the system lends them."""
    if platform.system() != "Linux" or platform.machine() != "x86_64" or _COMPILER.CPU_NAME or _COMPILER.CPU_FEATURES:
        return False
    wanted = {"amx_tile", "amx_int8", "amx_bf16", "avx512bw"}
    if not wanted <= set(Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()):
        return False
    features = llvmlite.binding.get_host_cpu_features()
    if not all(features.get(name) for name in ("amx-tile", "amx-int8", "amx-bf16", "avx512bw")):
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0


@intrinsic
def load_tile_config(_: Any, address: Any) -> Any:
    """Make the tiles ready for this thread."""

    def emit(b: ir.IRBuilder, values: Any) -> None:
        pointer = I8.as_pointer()
        b.call(declare(b, "llvm.x86.ldtilecfg", VOID, pointer), [b.inttoptr(values[0], pointer)])

    return types.void(_A), returning_nothing(emit)


@intrinsic
def release_tiles(_: Any) -> Any:
    """Give the tiles back."""

    def emit(b: ir.IRBuilder, _values: Any) -> None:
        b.call(declare(b, "llvm.x86.tilerelease", VOID), [])

    return types.void(), returning_nothing(emit)


@intrinsic(prefer_literal=True)
def load_tile(_: Any, tile: Any, address: Any, stride: Any) -> Any:
    """Fill a tile with 16 rows that lie `stride` bytes apart."""
    return types.void(tile, _A, _A), _moving("llvm.x86.tileloadd64", tile)


@intrinsic(prefer_literal=True)
def store_tile(_: Any, tile: Any, address: Any, stride: Any) -> Any:
    """Write a tile as 16 rows that lie `stride` bytes apart."""
    return types.void(tile, _A, _A), _moving("llvm.x86.tilestored64", tile)


@intrinsic(prefer_literal=True)
def clear_tile(_: Any, tile: Any) -> Any:
    """Fill a tile with zeros."""

    def emit(b: ir.IRBuilder, _values: Any) -> None:
        b.call(declare(b, "llvm.x86.tilezero", VOID, I8), [_number(tile)])

    return types.void(tile), returning_nothing(emit)


@intrinsic(prefer_literal=True)
def multiply_signed(_: Any, total: Any, left: Any, right: Any) -> Any:
    """total += left · right, int8 by int8 into int32."""
    return types.void(total, left, right), _multiplying("llvm.x86.tdpbssd", total, left, right)


@intrinsic(prefer_literal=True)
def multiply_unsigned(_: Any, total: Any, left: Any, right: Any) -> Any:
    """total += left · right, uint8 by int8 into int32."""
    return types.void(total, left, right), _multiplying("llvm.x86.tdpbusd", total, left, right)


@intrinsic(prefer_literal=True)
def multiply_bfloat(_: Any, total: Any, left: Any, right: Any) -> Any:
    """total += left · right, bfloat16 by bfloat16 into float32."""
    return types.void(total, left, right), _multiplying("llvm.x86.tdpbf16ps", total, left, right)


def _number(tile: Any) -> ir.Constant:
    return ir.Constant(I8, tile.literal_value)


def _moving(name: str, tile: Any) -> Any:
    def emit(b: ir.IRBuilder, values: Any) -> None:
        pointer = I8.as_pointer()
        function = declare(b, name, VOID, I8, pointer, I64)
        b.call(function, [_number(tile), b.inttoptr(values[1], pointer), values[2]])

    return returning_nothing(emit)


def _multiplying(name: str, *tiles: Any) -> Any:
    def emit(b: ir.IRBuilder, _values: Any) -> None:
        b.call(declare(b, name, VOID, I8, I8, I8), [_number(tile) for tile in tiles])

    return returning_nothing(emit)
