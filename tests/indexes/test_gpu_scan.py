"""The GPU's kernels beside the definition in float64, on the processor under Triton's interpreter.

Whether kernels are interpreted is decided when triton is first imported, and other tests may have imported it: what needs the
interpreter is named `case_…` and runs in a process of its own, started by the first test here.
"""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from page_oracle import naive_score, unit

from colsearcher.indexes.codecs import CODECS, EncodedVectors
from colsearcher.indexes.kernels import gpu, gpu_plan
from colsearcher.indexes.maxsim import PageRows, QueryBatch
from colsearcher.indexes.rotation import rotate

BITS = {name: codec.bits for name, codec in CODECS.items()}


def test_cases_under_the_interpreter():
    plugins = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "-o", "python_functions=case_*", __file__]
    # Threads would only wait for one another over arrays as small as these.
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


def test_importing_the_module_imports_neither_torch_nor_triton():
    code = "import sys, colsearcher.indexes.kernels.gpu; assert not {'torch', 'triton'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_doctests():
    from colsearcher.indexes.kernels import query_tiles

    assert [doctest.testmod(module).failed for module in (gpu, gpu_plan, query_tiles)] == [0, 0, 0]


def compiled_for_hopper(kernel, pointers, numbers, constants, **options):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    given = pointers | dict.fromkeys(numbers, "i32")
    source = ASTSource(
        kernel,
        signature=given | dict.fromkeys(constants, "constexpr"),
        constexprs={(len(given) + i,): value for i, value in enumerate(constants.values())},
        attrs={(i,): [["tt.divisibility", 16]] for i in range(len(pointers))},
    )
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="interpreted kernels are not compiled")
@pytest.mark.parametrize("name", ["fp16", "2bit"])
def test_the_scan_compiles_for_a_hopper_card_with_tensor_cores_and_loads_that_run_ahead(name, tmp_path, monkeypatch):
    import torch

    from colsearcher.indexes.kernels import query_tiles, triton_scan

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    tiling = query_tiles.choose_tiling(CODECS[name], 128, 32, torch.device("cpu"))
    launch = query_tiles.launches(tiling, torch.device("cpu"))[0]
    codes, digits = ("*fp16", "*fp16") if tiling.bits == 16 else ("*u8", "*i8")
    tables = dict.fromkeys(("starts", "lasts", "outs", "programs"), "*i32")
    pointers = {"codes": codes, "factors": "*fp16", "digits": digits, "offsets": "*fp32", **tables, "maxima": "*fp32"}
    constants = {
        "BITS": tiling.bits,
        "COLUMNS": tiling.columns,
        "DEPTH": tiling.depth,
        "CHUNKS": tiling.chunks,
        "ROWS": launch.rows,
        "LANE_ROWS": launch.rows,
        "VECTORS": tiling.vectors,
        "RESIDENT": tiling.resident,
        "WIDE": False,
        "PACKED": True,
    }
    warps = {"num_warps": launch.warps, "num_stages": launch.stages}
    asm = compiled_for_hopper(triton_scan._span_maxima, pointers, ["tiles_t"], constants, **warps)
    assert "wgmma.mma_async" in asm["ptx"]
    assert ".local" not in asm["ptx"]
    loop = asm["ttgir"].split("scf.for", 1)[1]
    assert loop.count("ttg.async_copy_global_to_local") == 1
    # At the top of a tile, the loads of the tiles after it are still under way.
    assert f"num = {launch.stages - 2} : i32" in loop


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="interpreted kernels are not compiled")
@pytest.mark.parametrize("pairs", [False, True])
def test_the_sum_compiles_for_a_hopper_card(pairs, tmp_path, monkeypatch):
    from colsearcher.indexes.kernels import triton_scan

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    pointers = {"maxima": "*fp32", "firsts": "*i32", "weights": "*fp32", "bounds": "*i32", "scores": "*fp32"}
    constants = {"PAIRS": pairs, "PAGES": 16, "VECTORS": 32}
    asm = compiled_for_hopper(triton_scan._page_scores, pointers, ["pages", "vectors", "queries"], constants)
    assert ".local" not in asm["ptx"]


def stored(codec, vectors, starts, rows, key="segment"):
    return PageRows(key, codec.encode(vectors), np.asarray(starts), np.asarray(rows))


def queries_of(rng, lengths, dim):
    weights = [rng.uniform(0.1, 1, n) for n in lengths]
    return [unit(rng, n, dim) for n in lengths], [w / w.sum() for w in weights]


def expected_scores(codec, pages, dim, queries, weights, block_rows=0):
    vectors = codec.decode(pages.encoded, dim)
    return np.array(
        [
            [naive_score(vectors[s : s + n], q, w, block_rows) for q, w in zip(queries, weights, strict=True)]
            for s, n in zip(pages.starts_P, pages.rows_P, strict=True)
        ]
    )


def scanner(budget_bytes=2**30):
    return gpu.DeviceScanner("cpu", budget_bytes)


@pytest.mark.parametrize("block_rows", [0, 4, 32])
@pytest.mark.parametrize("name", CODECS)
def case_a_scan_equals_the_definition_on_ragged_pages_in_any_order(name, block_rows):
    codec, rng = CODECS[name], np.random.default_rng(BITS[name] + block_rows)
    lengths = np.array([1, 16, 40, 17, 33, 5, 70 if block_rows != 4 else 30])
    starts = np.cumsum(lengths) - lengths
    for dim in {0: (8, 384), 4: (100,), 32: (128,)}[block_rows]:
        vectors = unit(rng, lengths.sum(), dim, np.float16)
        queries, weights = queries_of(rng, [1, 7], dim)
        # Every page but one, not in order.
        order = rng.permutation(len(lengths))[1:]
        pages = stored(codec, vectors, starts[order], lengths[order])
        found = scanner().scan([pages], codec, QueryBatch.stack(queries, weights), block_rows)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected_scores(codec, pages, dim, queries, weights, block_rows), atol=5e-5)


@pytest.mark.parametrize("name", CODECS)
def case_errors_stay_below_the_stated_bounds(name):
    codec, rng, dim = CODECS[name], np.random.default_rng(3), 24
    lengths = np.full(30, 2)
    pages = stored(codec, unit(rng, 60, dim, np.float16), np.arange(0, 60, 2), lengths)
    # One long component leaves the others the least of their digits.
    queries = [q * scale for q, scale in zip(unit(rng, 8, dim)[:, None], [1e-3, 1, 1, 1, 1, 1, 1, 500], strict=True)]
    queries[1][0] = np.eye(1, dim)[0]
    queries[2][0, 0] = 30
    weights = [np.ones(1)] * 8
    found = scanner().scan([pages], codec, QueryBatch.stack(queries, weights))
    length = np.linalg.norm(codec.decode(pages.encoded, dim), axis=1).max()
    for i, query in enumerate(queries):
        size, largest = np.linalg.norm(query), np.abs(rotate(query)).max()
        bound = 2**-23 * (dim + 4) * size * length
        if codec.bits < 16:
            bound = np.sqrt(dim) * largest * length / 65_024 + 2.0 ** (codec.bits - 22) * size * length
        # The sum with the weight is a float32 too, and so is what the rotation gives to either side.
        bound += 4e-7 * size * length
        expected = expected_scores(codec, pages, dim, [query], [np.ones(1)])
        assert np.abs(found[:, i : i + 1] - expected).max() <= bound


@pytest.mark.parametrize("name", CODECS)
def case_a_score_has_the_same_bits_whatever_is_scored_beside_it(name):
    codec, rng, dim = CODECS[name], np.random.default_rng(1), 64
    lengths = np.array([70, 1, 20])
    starts = np.cumsum(lengths) - lengths
    vectors = unit(rng, lengths.sum(), dim, np.float16)
    queries, weights = queries_of(rng, [7, 2], dim)
    together = scanner().scan([stored(codec, vectors, starts, lengths)], codec, QueryBatch.stack(queries, weights))
    for i, (start, n) in enumerate(zip(starts, lengths, strict=True)):
        alone = stored(codec, vectors[start : start + n], [0], [n])
        q = i % 2
        batch = QueryBatch.stack(queries[q : q + 1], weights[q : q + 1])
        assert scanner().scan([alone], codec, batch)[0, 0] == together[i, q]


def case_long_pages_and_many_programs(monkeypatch):
    monkeypatch.setattr(gpu_plan, "SPAN_ROWS", 150)
    monkeypatch.setattr(gpu_plan, "_RUN_TILES", 2)
    rng, dim = np.random.default_rng(2), 16
    # One row more than whole tiles, and than a span.
    lengths = np.array([129, 10, 301, 12, 151, 9])
    starts = np.cumsum(lengths) - lengths
    vectors = unit(rng, lengths.sum(), dim, np.float16)
    queries, weights = queries_of(rng, [4], dim)
    for name in ("fp16", "2bit"):
        pages = stored(CODECS[name], vectors, starts, lengths)
        found = scanner().scan([pages], CODECS[name], QueryBatch.stack(queries, weights))
        np.testing.assert_allclose(found, expected_scores(CODECS[name], pages, dim, queries, weights), atol=5e-5)


def case_many_query_vectors_take_several_tiles():
    rng, dim = np.random.default_rng(4), 16
    lengths = np.array([70, 20])
    pages = stored(CODECS["fp16"], unit(rng, 90, dim, np.float16), [0, 70], lengths)
    queries, weights = queries_of(rng, [40, 1, 60], dim)
    found = scanner().scan([pages], CODECS["fp16"], QueryBatch.stack(queries, weights))
    np.testing.assert_allclose(found, expected_scores(CODECS["fp16"], pages, dim, queries, weights), atol=5e-5)


@pytest.mark.parametrize(("name", "dim"), [("fp16", 200), ("int8", 544), ("4bit", 272), ("2bit", 272), ("1bit", 520)])
def case_digits_that_do_not_fit_the_card_are_loaded_with_every_chunk(name, dim, monkeypatch):
    from colsearcher.indexes.kernels import query_tiles

    monkeypatch.setattr(query_tiles, "_HOPPER_BYTES", 24_000)
    codec, rng = CODECS[name], np.random.default_rng(5)
    pages = stored(codec, unit(rng, 90, dim, np.float16), [0, 70], [70, 20])
    queries, weights = queries_of(rng, [2, 1], dim)
    batch = QueryBatch.stack(queries, weights)
    tiles = query_tiles.tile_queries(batch, codec, scanner()._device)
    assert not tiles.tiling.resident
    assert tiles.tiling.chunks > 1
    assert tiles.wide == (name == "int8")
    assert (query_tiles.launches(tiles.tiling, scanner()._device)[0].rows == 32) == (name == "1bit")
    expected = expected_scores(codec, pages, dim, queries, weights)
    np.testing.assert_allclose(scanner().scan([pages], codec, batch), expected, atol=5e-5)


@pytest.mark.parametrize("name", ["fp16", "4bit"])
def case_vectors_and_factors_of_zero_score_zero(name):
    codec, dim = CODECS[name], 16
    pages = stored(codec, np.zeros((50, dim), np.float16), [0, 30], [30, 20])
    queries, weights = queries_of(np.random.default_rng(6), [3], dim)
    queries += [np.zeros((2, dim), np.float32), np.empty((0, dim), np.float32)]
    weights += [np.array([0.5, 0.5]), np.empty(0)]
    for block_rows in (0, 32):
        assert not scanner().scan([pages], codec, QueryBatch.stack(queries, weights), block_rows).any()
    assert not scanner().scan([pages], codec, QueryBatch.stack(queries[2:], weights[2:])).any()


def case_scores_below_zero_are_not_lost_among_repeated_rows():
    dim = 16
    pages = stored(CODECS["fp16"], np.tile(np.eye(1, dim, dtype=np.float16), (25, 1)), [0, 5], [5, 20])
    query = -np.eye(2, dim, dtype=np.float32)[:1]
    assert scanner().scan([pages], CODECS["fp16"], QueryBatch.stack([query], [np.ones(1)])).tolist() == [[-1.0], [-1.0]]


def segments_of(codec, rng, dim, counts=(5, 3, 4)):
    """Segments of pages of 12 rows, some of which are the same in all, with the rows of some pages left out."""
    twins, segments = unit(rng, 24, dim, np.float16), []
    for i, count in enumerate(counts):
        vectors = np.concatenate([unit(rng, 12 * (count - 2), dim, np.float16), twins])
        starts = np.delete(np.arange(0, 12 * count, 12), 1)
        segments.append(stored(codec, vectors, starts, np.full(count - 1, 12), key=f"segment {i}"))
    return segments


@pytest.mark.parametrize("name", ["fp16", "2bit"])
def case_pages_that_pass_through_score_as_those_that_stay(name, monkeypatch):
    codec, rng, dim = CODECS[name], np.random.default_rng(7), 16
    segments = segments_of(codec, rng, dim)
    size = codec.bytes_per_vector(dim)
    batch = QueryBatch.stack(*queries_of(rng, [3, 2], dim))
    roomy = scanner()
    expected = roomy.scan(segments, codec, batch)
    assert roomy.resident_bytes == size * 12 * 12
    monkeypatch.setattr(gpu, "_CHUNK_BYTES", 30 * size)
    monkeypatch.setattr(gpu, "_MAXIMA_BYTES", 4 * 4 * 16)
    order = np.argsort(-expected, axis=0, kind="stable").T
    # Nothing stays; a segment and a piece of the last stay.
    for rows in (0, 130):
        tight = scanner(rows * size)
        values, pages = tight.top(segments, codec, batch, 100)
        assert tight.resident_bytes == rows * size
        assert pages.tolist() == order.tolist()
        assert values.tolist() == np.take_along_axis(expected.T, order, axis=1).tolist()
    assert tight.scan(segments, codec, batch).tobytes() == expected.tobytes()


def case_what_a_search_does_not_need_makes_room_longest_unused_first(monkeypatch):
    codec, rng, dim = CODECS["fp16"], np.random.default_rng(8), 16
    first, second, third = segments_of(codec, rng, dim, (4, 4, 4))
    batch = QueryBatch.stack(*queries_of(rng, [2], dim))
    monkeypatch.setattr(gpu, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(gpu, "_WORTH_KEEPING", 0.5)
    both = scanner(first.encoded.codes.nbytes * 2)
    for segment in (first, second, first, third):
        both.scan([segment], codec, batch)
    assert list(both._residents) == ["segment 0", "segment 2"]
    kept = both._residents["segment 0"].codes
    both.scan([first, third], codec, batch)
    assert both._residents["segment 0"].codes is kept
    # A search in a few pages of a segment does not bring all of it to the device.
    few = PageRows(second.key, second.encoded, second.starts_P[:1], second.rows_P[:1])
    assert both.scan([few], codec, batch) == pytest.approx(scanner().scan([second], codec, batch)[:1], abs=0)
    assert list(both._residents) == ["segment 0", "segment 2"]


def case_top_breaks_ties_by_position_and_takes_no_more_than_there_is():
    codec, dim = CODECS["fp16"], 16
    vectors = np.eye(dim, dtype=np.float16)[[0, 1, 2, 1, 0, 1]]
    one = stored(codec, vectors, np.arange(6), np.ones(6, int), "one")
    two = stored(codec, -vectors, np.arange(6), np.ones(6, int), "two")
    query = np.eye(2, dim, dtype=np.float32)[1:]
    batch = QueryBatch.stack([query, -query], [np.ones(1), np.ones(1)])
    values, pages = scanner().top([one, two], codec, batch, 5)
    assert (values.tolist(), pages.tolist()) == ([[1, 1, 1, 0, 0], [1, 1, 1, 0, 0]], [[1, 3, 5, 0, 2], [7, 9, 11, 0, 2]])
    values, pages = scanner().top([one], codec, batch, 50)
    assert pages.tolist() == [[1, 3, 5, 0, 2, 4], [0, 2, 4, 1, 3, 5]]
    assert values[1].tolist() == [0, 0, 0, -1, -1, -1]


def case_no_pages_give_no_scores():
    codec, dim = CODECS["2bit"], 16
    batch = QueryBatch.stack(*queries_of(np.random.default_rng(9), [2, 3], dim))
    nothing = PageRows("none", EncodedVectors(np.empty((0, 4), np.uint8), np.empty(0, np.float16)), *np.empty((2, 0), np.int64))
    for segments in ([], [nothing]):
        assert scanner().scan(segments, codec, batch).shape == (0, 2)
        assert [part.shape for part in scanner().top(segments, codec, batch, 3)] == [(2, 0), (2, 0)]


def case_plans_are_made_anew_for_other_pages():
    codec, rng, dim = CODECS["fp16"], np.random.default_rng(10), 16
    vectors = unit(rng, 60, dim, np.float16)
    batch = QueryBatch.stack(*queries_of(rng, [2], dim))
    one = scanner()
    pages = stored(codec, vectors, [0, 20, 40], [20, 20, 20])
    full = one.scan([pages], codec, batch)
    assert one.scan([pages], codec, batch).tobytes() == full.tobytes()
    other = PageRows(pages.key, pages.encoded, pages.starts_P[::-2], pages.rows_P[::-2])
    assert one.scan([other], codec, batch).tobytes() == full[::-2].tobytes()
    other = PageRows(pages.key, pages.encoded, pages.starts_P[1:], pages.rows_P[1:])
    assert one.scan([other], codec, batch).tobytes() == full[1:].tobytes()
    assert one.scan([other], codec, batch, 32).shape == (2, 1)
