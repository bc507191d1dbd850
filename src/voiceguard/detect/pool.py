"""A function over many inputs, several at a time, in their order and without drawing them all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Inputs a worker that are drawn before the oldest is done, so that one slow input idles nobody."""


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Generator[Result, None, None]:
    """Apply a function in threads; what releases the interpreter's lock runs side by side.

    Parameters
    ----------
    function : callable
        Called in a thread of its own with one item.
    items : iterable
        Drawn in the caller's thread, at most `workers` times :data:`AHEAD` before the first that is
        not yet given back. With one worker each is drawn when it is asked for, and no thread is
        started.
    workers : int
        Calls at a time, >= 1.

    Yields
    ------
    object
        What the function gave, in the order of the items. What it, or the drawing of an item,
        raises is raised in its turn, after all that came before. Where the caller stops early, the
        calls that run are waited for and the rest is dropped.
    """
    if workers == 1:
        yield from map(function, items)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    pool = ThreadPoolExecutor(workers, thread_name_prefix="voiceguard")
    running: deque[Future[Result]] = deque()
    iterator = iter(items)
    try:
        while True:
            try:
                running.append(pool.submit(function, next(iterator)))
            except StopIteration:
                break
            except Exception as error:
                failed: Future[Result] = Future()
                failed.set_exception(error)
                running.append(failed)
                break
            if len(running) == AHEAD * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
