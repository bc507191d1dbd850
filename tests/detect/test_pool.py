"""Several calls at a time: in order, side by side, drawn no further ahead than said."""

from __future__ import annotations

import threading

import pytest

from voiceguard.detect.pool import AHEAD, in_order

WAIT_S = 60.0


class Meeting:
    """Lets calls through only once so many of them are there at the same time."""

    def __init__(self, calls: int) -> None:
        self.barrier = threading.Barrier(calls)

    def __call__(self, item: int) -> int:
        self.barrier.wait(WAIT_S)
        return item


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_every_item_in_its_order(workers, count):
    found = in_order(lambda i: i * i, iter(range(count)), workers=workers)
    assert list(found) == [i * i for i in range(count)]


def test_order_holds_where_the_first_is_done_last():
    others = threading.Semaphore(0)

    def slow_first(item):
        if item == 0:
            # The rest fits into what is drawn ahead, so all of it can be done before.
            for _ in range(3):
                assert others.acquire(timeout=WAIT_S)
        else:
            others.release()
        return item

    assert list(in_order(slow_first, range(4), workers=2)) == [0, 1, 2, 3]


def test_calls_run_side_by_side():
    assert list(in_order(Meeting(3), range(6), workers=3)) == list(range(6))


def test_one_worker_is_the_caller():
    found = in_order(lambda _: threading.get_ident(), range(3), workers=1)
    assert set(found) == {threading.get_ident()}


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 2 * AHEAD), (3, 3 * AHEAD)])
def test_no_more_is_drawn_than_said(workers, ahead):
    drawn = []

    def items():
        for i in range(100):
            drawn.append((i, threading.get_ident()))
            yield i

    found = in_order(lambda i: i, items(), workers=workers)
    assert drawn == []
    for taken in range(1, 10):
        assert next(found) == taken - 1
        assert len(drawn) == taken - 1 + ahead
    found.close()
    assert {thread for _, thread in drawn} == {threading.get_ident()}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_fault_in_drawing_comes_after_what_was_drawn(workers):
    def items():
        yield from range(4)
        raise OSError("the list ends here")

    found = in_order(lambda i: i, items(), workers=workers)
    assert [next(found) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(OSError, match="ends here"):
        next(found)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_fault_in_a_call_comes_in_its_turn(workers):
    found = in_order(lambda i: 1 // (2 - i), range(9), workers=workers)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert list(found) == []


def test_an_early_end_waits_for_what_has_begun_and_leaves_no_thread():
    begun, ended = [], []

    def function(item):
        begun.append(item)
        ended.append(item)
        return item

    found = in_order(function, range(100), workers=2)
    assert next(found) == 0
    found.close()
    assert sorted(begun) == sorted(ended)
    assert len(begun) <= 2 * AHEAD
    assert not [t for t in threading.enumerate() if t.name.startswith("voiceguard")]
