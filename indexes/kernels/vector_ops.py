"""Vector instructions for the compiled kernels, as LLVM IR: any processor runs them, at the width that it has.

Addresses and strides are plain integers, in bytes. Operations work on `LANES` numbers at a time, so a buffer that one writes
has to be that much longer than what is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

LANES = 16
# What `multiply_rows` multiplies at a time: it fills the registers of a processor that has 32 of `LANES` numbers.
PANEL = 2 * LANES
PANEL_ROWS = 8

# Typed as what it makes: functions that compiled code calls without the typing context.
intrinsic: Any = extending.intrinsic

I8, I32, I64 = (ir.IntType(bits) for bits in (8, 32, 64))
VOID = ir.VoidType()
_HALF, _FLOAT = ir.HalfType(), ir.FloatType()
_BYTES, _HALVES, _FLOATS, _INTS = (ir.VectorType(kind, LANES) for kind in (I8, _HALF, _FLOAT, I32))
_A = types.intp


def declare(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Type) -> ir.Function:
    """An LLVM intrinsic, declared in the module that is being built."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def returning_nothing(emit: Callable[[ir.IRBuilder, Any], None]) -> Callable[..., Any]:
    """numba's code generator of an operation that works by its effects alone."""

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        emit(builder, values)
        return context.get_dummy_value()

    return generate


@intrinsic
def copy_bytes(_: Any, source: Any, target: Any, count: Any) -> Any:
    """Copy `count` bytes."""

    def emit(b: ir.IRBuilder, values: Any) -> None:
        source, target, count = values
        pointer = I8.as_pointer()
        function = declare(b, "llvm.memcpy.p0i8.p0i8.i64", VOID, pointer, pointer, I64, ir.IntType(1))
        arguments = [b.inttoptr(target, pointer), b.inttoptr(source, pointer), count, ir.Constant(ir.IntType(1), 0)]
        b.call(function, arguments)

    return types.void(_A, _A, _A), returning_nothing(emit)


@intrinsic
def fetch_ahead(_: Any, address: Any, count: Any) -> Any:
    """Ask for the cache lines of `count` bytes that will be read soon. Any address will do."""

    def emit(b: ir.IRBuilder, values: Any) -> None:
        address, count = values
        pointer = I8.as_pointer()
        prefetch = declare(b, "llvm.prefetch.p0i8", VOID, pointer, I32, I32, I32)
        how = [ir.Constant(I32, value) for value in (0, 3, 1)]  # to read, to keep, data
        with cgutils.for_range(b, b.udiv(b.add(count, _constant(63)), _constant(64))) as loop:
            b.call(prefetch, [b.inttoptr(b.add(address, b.mul(loop.index, _constant(64))), pointer), *how])

    return types.void(_A, _A), returning_nothing(emit)


@intrinsic(prefer_literal=True)
def unpack_planes(_: Any, source: Any, target: Any, rows: Any, columns: Any, stride: Any, bits: Any, width: Any) -> Any:
    """Rows of `columns` bytes of codes of `bits` bits to one byte each, rows then `stride` bytes apart: plane i of a row,
    `columns` long, from bits i·bits … of every byte.

    `columns` is a multiple of `width`. `bits` and `width` are literals.
    """
    shift, lanes = bits.literal_value, width.literal_value

    def emit(b: ir.IRBuilder, values: Any) -> None:
        source, target, rows, columns, stride = values[:5]
        kind = ir.VectorType(I8, lanes)
        mask = ir.Constant(kind, [(1 << shift) - 1] * lanes)
        with cgutils.for_range(b, rows) as row, cgutils.for_range(b, b.udiv(columns, _constant(lanes))) as loop:
            at = b.mul(loop.index, _constant(lanes))
            packed = _load(b, b.add(source, b.add(b.mul(row.index, columns), at)), kind)
            first = b.add(target, b.add(b.mul(row.index, stride), at))
            for plane in range(8 // shift):
                moved = b.lshr(packed, ir.Constant(kind, [plane * shift] * lanes))
                _store(b, b.and_(moved, mask), b.add(first, b.mul(columns, _constant(plane))))

    return types.void(_A, _A, _A, _A, _A, bits, width), returning_nothing(emit)


@intrinsic(prefer_literal=True)
def unpack_short_rows(_: Any, source: Any, target: Any, rows: Any, stride: Any, bits: Any, width: Any) -> Any:
    """`unpack_planes` of rows of `width` bytes, a divisor of 64: written 64 bytes at a time, which a tile can read at once.

    `bits` and `width` are literals.
    """
    shift, lanes = bits.literal_value, width.literal_value

    def emit(b: ir.IRBuilder, values: Any) -> None:
        source, target, rows, stride = values[:4]
        words = ir.VectorType(ir.IntType(16), 32)
        mask = ir.Constant(ir.VectorType(I8, 64), [(1 << shift) - 1] * 64)
        with cgutils.for_range(b, rows) as loop:
            row = _load(b, b.add(source, b.mul(loop.index, _constant(lanes))), ir.VectorType(I8, lanes))
            repeated = b.shuffle_vector(row, row, ir.Constant(ir.VectorType(I32, 64), list(range(lanes)) * (64 // lanes)))
            pairs = b.bitcast(repeated, words)
            place = b.add(target, b.mul(loop.index, stride))
            for part in range(8 // shift * lanes // 64):
                counts = [(part * (64 // lanes) + word * 2 // lanes) * shift for word in range(32)]
                moved = b.bitcast(b.lshr(pairs, ir.Constant(words, counts)), ir.VectorType(I8, 64))
                _store(b, b.and_(moved, mask), b.add(place, _constant(64 * part)))

    return types.void(_A, _A, _A, _A, bits, width), returning_nothing(emit)


@intrinsic(prefer_literal=True)
def widen_bytes(_: Any, source: Any, target: Any, count: Any, signed: Any) -> Any:
    """`count` bytes, rounded up to `LANES`, to float32. `signed` is a literal."""
    negative = bool(signed.literal_value)

    def emit(b: ir.IRBuilder, values: Any) -> None:
        source, target, count = values[:3]
        with cgutils.for_range(b, _ceil_div(b, count)) as loop:
            at = b.mul(loop.index, _constant(LANES))
            row = _load(b, b.add(source, at), _BYTES)
            floats = b.sitofp(row, _FLOATS) if negative else b.uitofp(row, _FLOATS)
            _store(b, floats, b.add(target, b.mul(at, _constant(4))))

    return types.void(_A, _A, _A, signed), returning_nothing(emit)


@intrinsic
def widen_halves(_: Any, source: Any, target: Any, count: Any) -> Any:
    """`count` float16 numbers, rounded up to `LANES`, to float32."""

    def emit(b: ir.IRBuilder, values: Any) -> None:
        source, target, count = values
        with cgutils.for_range(b, _ceil_div(b, count)) as loop:
            at = b.mul(loop.index, _constant(LANES * 2))
            row = _load(b, b.add(source, at), _HALVES)
            _store(b, b.fpext(row, _FLOATS), b.add(target, b.mul(at, _constant(2))))

    return types.void(_A, _A, _A), returning_nothing(emit)


@intrinsic
def split_halves(_: Any, source: Any, high: Any, low: Any, chunks: Any) -> Any:
    """`chunks` times 32 float16 numbers as two bfloat16 parts whose sum is the number, exactly.

    Of every 32 numbers, number j and number 16 + j become neighbours.
    """

    def emit(b: ir.IRBuilder, values: Any) -> None:
        source, high, low, chunks = values
        upper = ir.Constant(_INTS, [0xFFFF0000] * LANES)
        sixteen = ir.Constant(_INTS, [16] * LANES)
        with cgutils.for_range(b, chunks) as loop:
            at = b.mul(loop.index, _constant(64))
            parts: list[tuple[ir.Value, ir.Value]] = []
            for half in range(2):
                x = b.fpext(_load(b, b.add(source, b.add(at, _constant(32 * half))), _HALVES), _FLOATS)
                top = b.and_(b.bitcast(x, _INTS), upper)
                rest = b.bitcast(b.fsub(x, b.bitcast(top, _FLOATS)), _INTS)
                parts.append((top, rest))
            for target, (first, second) in zip((high, low), zip(*parts, strict=True), strict=True):
                _store(b, b.or_(b.lshr(first, sixteen), b.and_(second, upper)), b.add(target, at))

    return types.void(_A, _A, _A, _A), returning_nothing(emit)


@intrinsic
def dot_four_rows(_: Any, rows: Any, row_stride: Any, query: Any, depth: Any, initial: Any, sums: Any, sums_stride: Any) -> Any:
    """`initial` plus the inner products of four float32 rows with `LANES` query vectors, (depth, LANES) float32, into four
    rows of `sums`."""

    def emit(b: ir.IRBuilder, values: Any) -> None:
        rows, row_stride, query, depth, initial, sums, sums_stride = values
        fused = declare(b, "llvm.fmuladd.v16f32", _FLOATS, _FLOATS, _FLOATS, _FLOATS)
        totals = [cgutils.alloca_once(b, _FLOATS) for _ in range(4)]
        for total in totals:
            b.store(_load(b, initial, _FLOATS), total)
        with cgutils.for_range(b, depth) as loop:
            column = _load(b, b.add(query, b.mul(loop.index, _constant(4 * LANES))), _FLOATS)
            for i, total in enumerate(totals):
                place = b.add(b.add(rows, b.mul(row_stride, _constant(i))), b.mul(loop.index, _constant(4)))
                value = _spread(b, b.load(b.inttoptr(place, _FLOAT.as_pointer())))
                b.store(b.call(fused, [value, column, b.load(total)]), total)
        for i, total in enumerate(totals):
            _store(b, b.load(total), b.add(sums, b.mul(sums_stride, _constant(i))))

    return types.void(_A, _A, _A, _A, _A, _A, _A), returning_nothing(emit)


@intrinsic
def multiply_rows(_: Any, rows: Any, row_stride: Any, panel: Any, depth: Any, product: Any, product_stride: Any) -> Any:
    """`PANEL_ROWS` float32 rows times a (depth, `PANEL`) float32 panel of a matrix, into as many rows of `product`.

    Every number is summed from the first to the last, whatever is multiplied with it.
    """

    def emit(b: ir.IRBuilder, values: Any) -> None:
        rows, row_stride, panel, depth, product, product_stride = values
        fused = declare(b, "llvm.fmuladd.v16f32", _FLOATS, _FLOATS, _FLOATS, _FLOATS)
        parts = [_constant(4 * LANES * part) for part in range(PANEL // LANES)]
        totals = [[cgutils.alloca_once(b, _FLOATS) for _ in parts] for _ in range(PANEL_ROWS)]
        for row in totals:
            for total in row:
                b.store(ir.Constant(_FLOATS, [0.0] * LANES), total)
        with cgutils.for_range(b, depth) as loop:
            line = b.add(panel, b.mul(loop.index, _constant(4 * PANEL)))
            columns = [_load(b, b.add(line, part), _FLOATS) for part in parts]
            for i, row in enumerate(totals):
                place = b.add(b.add(rows, b.mul(row_stride, _constant(i))), b.mul(loop.index, _constant(4)))
                value = _spread(b, b.load(b.inttoptr(place, _FLOAT.as_pointer())))
                for column, total in zip(columns, row, strict=True):
                    b.store(b.call(fused, [value, column, b.load(total)]), total)
        for i, row in enumerate(totals):
            for part, total in zip(parts, row, strict=True):
                _store(b, b.load(total), b.add(b.add(product, b.mul(product_stride, _constant(i))), part))

    return types.void(_A, _A, _A, _A, _A, _A), returning_nothing(emit)


@intrinsic(prefer_literal=True)
def fold_maxima(_: Any, sums: Any, stride: Any, factors: Any, rows: Any, best: Any, integers: Any, scaled: Any) -> Any:
    """best = max(best, sums_i · factors_i) over `rows` rows i, for `2 LANES` columns; `best` and `factors` are float32.

    Literals: `integers`, whether `sums` are int32 or float32, and `scaled`, whether there are factors at all.
    """
    whole, both = bool(integers.literal_value), bool(scaled.literal_value)

    def emit(b: ir.IRBuilder, values: Any) -> None:
        sums, stride, factors, rows, best = values[:5]
        sides = [_constant(side * 4 * LANES) for side in range(2)]
        tops = [cgutils.alloca_once(b, _FLOATS) for _ in sides]
        for top, side in zip(tops, sides, strict=True):
            b.store(_load(b, b.add(best, side), _FLOATS), top)
        with cgutils.for_range(b, rows) as loop:
            place = b.add(sums, b.mul(loop.index, stride))
            if both:
                at = b.add(factors, b.mul(loop.index, _constant(4)))
                factor = _spread(b, b.load(b.inttoptr(at, _FLOAT.as_pointer())))
            for top, side in zip(tops, sides, strict=True):
                at = b.add(place, side)
                value = b.sitofp(_load(b, at, _INTS), _FLOATS) if whole else _load(b, at, _FLOATS)
                value = b.fmul(value, factor) if both else value
                before = b.load(top)
                b.store(b.select(b.fcmp_ordered(">", value, before), value, before), top)
        for top, side in zip(tops, sides, strict=True):
            _store(b, b.load(top), b.add(best, side))

    return types.void(_A, _A, _A, _A, _A, integers, scaled), returning_nothing(emit)


def _constant(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def _ceil_div(b: ir.IRBuilder, count: ir.Value) -> ir.Value:
    return b.udiv(b.add(count, _constant(LANES - 1)), _constant(LANES))


def _load(b: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return b.load(b.inttoptr(address, kind.as_pointer()), align=1)


def _store(b: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    b.store(value, b.inttoptr(address, value.type.as_pointer()), align=1)


def _spread(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """One float in every lane."""
    nothing = ir.Constant(_FLOATS, ir.Undefined)
    first = b.insert_element(nothing, value, ir.Constant(I32, 0))
    return b.shuffle_vector(first, nothing, ir.Constant(_INTS, [0] * LANES))
