"""What holds for every test: signals act as at a terminal, also where the caller (nohup, a CI job) ignores some."""

import signal


def pytest_configure() -> None:
    """What is ignored here would be ignored by every process that a test starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
