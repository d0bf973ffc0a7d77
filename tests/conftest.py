"""What holds for every test, and what tests of several folders share.

Signals act as at a terminal, also where the caller (nohup, a CI job) ignores some; hypothesis has no deadline, for the
machine may be busy, and leaves nothing in the folder.
"""

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import settings

from rejeu.state import gcs
from tests import servers
from tests.fakes.storage_server import BUCKET, StorageServer
from tests.side_by_side import ByFile, longest_first

SHORT_LIVED: Final = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""For Google's emulator and Spark: in a test's minute Java's better compiler costs more than it saves."""


def pytest_configure() -> None:
    """What is ignored here would be ignored by every process that a test starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.setdefault("JAVA_TOOL_OPTIONS", SHORT_LIVED)
    settings.register_profile("rejeu", deadline=None, database=None)
    settings.load_profile("rejeu")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse cases whose order differs from process to process: workers would not agree on it."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        if any(isinstance(each, set | frozenset) for each in (*mark.args, *mark.kwargs.values())):
            pytest.fail(f"{metafunc.definition.nodeid} takes its cases from a set: sort them", pytrace=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker."""
    if hasattr(config, "workerinput"):
        longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(scope="module")
def own_garbage() -> Iterator[None]:
    """For tests that measure CPU: garbage is looked for in what they make themselves.

    Else a collection goes through all that was imported and collected before them, which takes half a second.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageServer]:
    """Cloud Storage with an empty bucket, asked with more patience and shorter pauses, for the machine may be busy."""
    monkeypatch.setattr(gcs, "REQUEST_SECONDS", 60.0)
    monkeypatch.setattr(gcs, "PAUSE_SECONDS", 0.02)
    with StorageServer(BUCKET) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
        yield server


@pytest.fixture(scope="session")
def storage_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Storage]:
    """A Cloud Storage emulator; a test that uses it has the environment name it, or a fixture of its room does."""
    with servers.storage(tmp_path_factory.mktemp("storage")) as server:
        yield server


@pytest.fixture(scope="session")
def bigquery_server(
    tmp_path_factory: pytest.TempPathFactory, storage_server: servers.Storage
) -> Iterator[servers.BigQuery]:
    """A BigQuery emulator, likewise."""
    with servers.bigquery(tmp_path_factory.mktemp("bigquery"), storage_server.folder) as server:
        yield server


@pytest.fixture(scope="module")
def bigquery_here(bigquery_server: servers.BigQuery) -> Iterator[servers.BigQuery]:
    """The emulator, which the environment names for this module."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in bigquery_server.variables.items():
            environment.setenv(name, value)
        yield bigquery_server
