"""What a program does with SIGINT, SIGTERM and SIGHUP while it does what must be undone, or must be finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_held: Final[list[int]] = []
"""Those that came while something was being finished."""


@contextmanager
def interruptible() -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP raises; those that follow find a clean-up under way and change nothing."""

    def raise_once(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, _hold_off)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    with _handling(raise_once):
        _let_go()
        yield


@contextmanager
def uninterruptible() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP wait for what must be finished once begun; an error makes them needless."""
    try:
        with _handling(lambda number, _: _held.append(number)):
            yield
    except BaseException:
        _held.clear()
        raise
    _let_go()


def _let_go() -> None:
    """Give the first signal that was held to whoever handles it now."""
    if _held:
        first = _held[0]
        _held.clear()
        signal.raise_signal(first)


def _hold_off(_number: int, _frame: FrameType | None) -> None:
    """A function and not SIG_IGN, which processes started meanwhile would inherit."""


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Other threads never get signals; a signal that our caller ignores (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    handled = [each for each in _SIGNALS if before[each] is not signal.SIG_IGN]
    try:
        for each in handled:
            signal.signal(each, handler)
        yield
    finally:
        for each in handled:
            signal.signal(each, before[each])
