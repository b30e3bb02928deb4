"""Stages that overlap: order, errors, ends."""

import threading
import time

import pytest

from colsearcher.retrieval.pipeline import InOrder, read_ahead


def test_items_come_in_order_and_not_more_than_so_many_ahead():
    taken = []

    def items():
        for i in range(20):
            taken.append(i)
            yield i

    ahead = read_ahead(items(), 3)
    assert next(ahead) == 0
    time.sleep(0.3)
    assert len(taken) <= 6
    assert list(ahead) == list(range(1, 20))


def test_an_exception_comes_where_its_item_would():
    def items():
        yield 1
        raise OSError("torn")

    ahead = read_ahead(items(), 5)
    assert next(ahead) == 1
    with pytest.raises(OSError, match="torn"):
        next(ahead)


def test_closing_closes_the_generator_in_its_own_thread():
    closed = []

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    ahead = read_ahead(items(), 2)
    next(ahead)
    ahead.close()
    assert closed == ["colsearcher-read-ahead"]


def test_what_comes_before_the_results_is_done_before_them():
    finished = []
    with InOrder(lambda i: i, lambda i, r: finished.append(i), 2) as stages:
        stages.before(lambda: time.sleep(0.05) or finished.append("ready"))
        for i in range(3):
            stages.give(i)
    assert finished == ["ready", 0, 1, 2]


def test_results_are_finished_in_the_order_of_the_work():
    finished = []
    with InOrder(lambda i: time.sleep(0.05 if i % 2 == 0 else 0) or i * i, lambda i, r: finished.append((i, r)), 2) as stages:
        for i in range(8):
            stages.give(i)
    assert finished == [(i, i * i) for i in range(8)]


def test_two_pieces_are_worked_on_at_once():
    both = threading.Barrier(2, timeout=5)
    with InOrder(lambda i: both.wait(), lambda i, r: None, 2) as stages:
        stages.give(0)
        stages.give(1)


def test_nothing_after_a_piece_that_failed_is_finished():
    finished = []

    def work(i):
        if i == 2:
            raise ValueError("broken")
        return i

    with pytest.raises(ValueError, match="broken"), InOrder(work, lambda i, r: finished.append(i), 2) as stages:
        for i in range(10):
            stages.give(i)
    assert finished == [0, 1]


def test_leaving_by_an_exception_drops_what_has_not_begun():
    finished = []
    with pytest.raises(KeyError), InOrder(lambda i: time.sleep(0.1), lambda i, r: finished.append(i), 1) as stages:
        stages.give(0)
        stages.give(1)
        raise KeyError
    assert len(finished) <= 2
