"""Signals while something is done that must be undone, or finished."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from rejeu.local.processes.interrupts import interruptible, uninterruptible


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    assert {each: signal.getsignal(each) for each in before} == before


def test_ctrl_c_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        send(signal.SIGINT)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_end_interrupts_with_its_exit_code(number: signal.Signals, code: int) -> None:
    with pytest.raises(SystemExit) as ended, interruptible():
        send(number)
    assert ended.value.code == code


def test_the_clean_up_after_an_interrupt_is_left_in_peace() -> None:
    done = []

    def work() -> None:
        try:
            with interruptible():
                send(signal.SIGINT)
        finally:
            send(signal.SIGINT)
            send(signal.SIGTERM)
            done.append("clean")

    with pytest.raises(KeyboardInterrupt), uninterruptible():
        work()
    assert done == ["clean"]


def test_what_must_be_finished_is_finished_first() -> None:
    done = []

    def work() -> None:
        with uninterruptible():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                send(number)
            done.append("finished")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["finished"]


def test_ctrl_c_before_the_work_can_be_undone_interrupts_it_at_its_beginning() -> None:
    begun = []

    def work() -> None:
        with uninterruptible():
            send(signal.SIGINT)
            with interruptible():
                begun.append("work")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert begun == []


def test_an_error_leaves_no_signal_behind() -> None:
    def work() -> None:
        with uninterruptible():
            send(signal.SIGINT)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    with interruptible():
        pass


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_may_do_the_same_and_get_no_signals() -> None:
    done = []

    def work() -> None:
        with uninterruptible(), interruptible():
            done.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["done"]
