from dataclasses import replace

import pytest

from colsearcher.indexes.codecs import CODECS
from colsearcher.indexes.planner import Situation, make_plan, memory_bytes
from colsearcher.indexes.segment import Storage
from colsearcher.indexes.tuning import PooledTuning, Tuning

GB = 1 << 30
POOLED = PooledTuning("candidates-1", 16, 200, 300, 0.995, 12.0, 100_000)
TUNING = Tuning("2026-01-01", 0.99, 64, 100_000, 40, 0.998, {"16": 40.0, "4": 12.0}, POOLED)


def situation(pages, *, rows=400, codec="4bit", originals=True, **more):
    values = {
        "pages": pages,
        "vectors": pages * rows,
        "all_pages": pages,
        "unpooled": 0,
        "storage": Storage(128, CODECS[codec], originals),
        "memory_bytes": 16 * GB,
        "device": "cpu",
        "k": 10,
        "recall": 0.99,
        "tuning": None,
    }
    return Situation(**values | more)


def engine(*args, **more):
    return make_plan(situation(*args, **more)).engine


def test_few_pages_are_scanned_exactly_and_many_from_their_codes():
    assert engine(500) == "exact"
    assert engine(20_000) == "codes"


def test_a_recall_of_one_is_exact_where_it_can_be():
    assert engine(20_000, recall=1.0) == "exact"
    assert engine(20_000, recall=1.0, originals=False) == "codes"
    assert engine(20_000, codec="fp16") == "exact"


def test_a_filter_that_leaves_few_pages_makes_the_search_exact():
    assert engine(100_000, tuning=TUNING) == "pooled"
    assert make_plan(replace(situation(100_000, tuning=TUNING), pages=300, vectors=120_000)).engine == "exact"


def test_candidates_need_an_audit_that_reached_the_recall():
    assert engine(100_000) == "codes"
    assert engine(100_000, tuning=replace(TUNING, pooled=None)) == "codes"
    weak = replace(TUNING, pooled=replace(POOLED, recall=0.9))
    plan = make_plan(situation(100_000, tuning=weak))
    assert plan.engine == "codes"
    assert "0.900" in plan.reason
    assert engine(100_000, tuning=TUNING, recall=0.999) == "codes"
    assert engine(100_000, tuning=TUNING, k=200) == "codes"


def test_candidates_that_miss_many_new_pages_are_left():
    plan = make_plan(situation(100_000, tuning=TUNING, unpooled=40_000))
    assert plan.engine == "codes"
    assert "40,000 pages are newer" in plan.reason
    assert engine(100_000, tuning=TUNING, unpooled=1_000) == "pooled"


def test_what_does_not_fit_the_memory_is_read_from_the_disk_only_where_it_must_be():
    roomy = make_plan(situation(3_000, rows=1_000))
    tight = make_plan(situation(3_000, rows=1_000, memory_bytes=GB // 4))
    assert tight.estimates_ms["exact"] > 5 * roomy.estimates_ms["exact"]
    assert tight.engine == "codes"


def test_a_device_makes_exact_quick():
    assert engine(50_000, device="cuda:0", memory_bytes=60 * GB) == "exact"


def test_the_depth_follows_the_codec_the_hits_and_the_audit():
    depth = lambda *args, **more: make_plan(situation(*args, **more)).depth  # noqa: E731
    assert depth(20_000, codec="1bit") > depth(20_000, codec="2bit") > depth(20_000, codec="int8")
    assert depth(20_000, k=100) == 300
    assert depth(20_000, tuning=replace(TUNING, pooled=None)) == 40
    assert depth(20_000, recall=0.999) > depth(20_000)


def test_codes_that_an_audit_found_too_coarse_are_left_for_the_exact_scan():
    coarse = replace(TUNING, depth=1000, codes_recall=0.93)
    plan = make_plan(situation(100_000, tuning=coarse))
    assert plan.engine == "exact" and plan.estimates_ms.keys() == {"exact"}
    assert "held 0.930 of the exact top ten only" in plan.reason
    assert engine(100_000, tuning=coarse, recall=0.9) == "pooled"
    assert engine(100_000, tuning=replace(coarse, codes_recall=0.0), originals=False) != "exact"


def test_a_higher_recall_than_the_audit_s_never_looks_at_fewer_pages():
    deep = replace(TUNING, depth=700, pooled=None)
    depth = {recall: make_plan(situation(20_000, tuning=deep, recall=recall)).depth for recall in (0.9, 0.99, 0.998, 0.999)}
    assert set(depth.values()) == {700}


@pytest.mark.parametrize("pages", [1, 100, 20_000, 100_000])
def test_every_plan_says_why(pages):
    for tuning in (None, TUNING):
        plan = make_plan(situation(pages, tuning=tuning))
        assert plan.reason
        assert plan.engine in plan.estimates_ms


def test_tuning_survives_being_stored():
    for tuning in (TUNING, replace(TUNING, pooled=None)):
        assert Tuning.from_json(tuning.to_json()) == tuning


def test_the_memory_of_this_machine_is_known():
    assert memory_bytes() > GB // 4
