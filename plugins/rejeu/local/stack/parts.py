"""The parts of the local stack: what each runs, when it is well, and what must be well before it starts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rejeu.local.processes.ports import HOST
from rejeu.local.processes.supervision import Program
from rejeu.local.servers.bigtable_emulator import find_bigtable_emulator
from rejeu.local.stack.health import Check, answers_grpc, answers_http, answers_postgres, beats
from rejeu.local.stack.settings import BIGTABLE, BUCKET, DATABASE_USER, PROJECT, StackSettings

EMULATORS: Final = (
    "pubsub",
    "bigquery",
    "storage",
    "metadata",
    "open-data",
    *([BIGTABLE] if find_bigtable_emulator() else []),
)
AIRFLOW: Final = ("api-server", "dag-processor", "triggerer", "scheduler")
DATABASE: Final = "database"
PARTS: Final = (*EMULATORS, DATABASE, *AIRFLOW)

SERVER_GROUP: Final = "servers"
"""What everything else works with, and what therefore ends last: the emulators and the database."""
AIRFLOW_GROUP: Final = "airflow"
TABLES: Final = "tables"
DEMO_DATA: Final = "demo-data"
ONCE: Final = frozenset({TABLES, DEMO_DATA})
"""Not parts: each runs once for a home, and ends."""


NEEDED: Final = (DATABASE, TABLES)
"""What every component of Airflow comes after."""


@dataclass(frozen=True)
class Part:
    """One program, where it is reached, when it is well, and the parts that come before it."""

    program: Program
    address: str
    healthy: Check
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.program.name


def parts_of(settings: StackSettings, names: Iterable[str]) -> list[Part]:
    """The parts of these names, and what they need once; without Pub/Sub where somebody else's is used."""
    servers = (*_emulators(settings), _database(settings))
    known = {part.name: part for part in (*servers, *_airflow(settings), _demo_data(settings))}
    wanted = [known[name] for name in names if name in known]
    needs_tables = any(TABLES in part.after for part in wanted) and not settings.database_made.exists()
    return [_tables(settings), *wanted] if needs_tables else wanted


def _emulators(settings: StackSettings) -> list[Part]:
    bigquery, storage, metadata, data = map(settings.address, ("bigquery", "storage", "metadata", "open_data"))
    parts = [
        Part(_emulator("bigquery", _bigquery(settings)), bigquery, answers_http(bigquery, "/readyz")),
        Part(_emulator("storage", _storage(settings)), storage, answers_http(storage, f"/storage/v1/b/{BUCKET}")),
        Part(_emulator("metadata", _metadata(settings)), metadata, answers_http(metadata, "/")),
        Part(_emulator("open-data", _open_data(settings)), data, answers_http(data, "/")),
    ]
    if BIGTABLE in settings.ports:
        bigtable = settings.address(BIGTABLE)
        parts.append(Part(_emulator(BIGTABLE, _bigtable(settings)), bigtable, answers_grpc(bigtable)))
    if settings.own_pubsub:
        parts.insert(0, Part(_emulator("pubsub", _pubsub(settings)), settings.pubsub, answers_grpc(settings.pubsub)))
    return parts


def _airflow(settings: StackSettings) -> list[Part]:
    ui = settings.address("ui")
    since = datetime.now(UTC)
    server = ("api-server", "--host", HOST, "--port", str(settings.ports["ui"]), "--workers", "1")
    return [
        Part(_component("api-server", *server), settings.ui_url, answers_http(ui, "/api/v2/version"), NEEDED),
        # Their log servers are for other machines, and listen on fixed ports.
        Part(
            _component("triggerer", "triggerer", "--skip-serve-logs"),
            "",
            beats(ui, "triggerer", since),
            NEEDED,
        ),
        # On two cores: beside the API server, which everybody waits for, there is time for one at once.
        Part(_warm("dag-processor", "dag-processor"), "", beats(ui, "dag_processor", since), (*NEEDED, "triggerer")),
        # The first task that it starts reports to the API server, and may use any emulator.
        Part(
            _warm("scheduler", "scheduler", "--skip-serve-logs"),
            "",
            beats(ui, "scheduler", since),
            (*NEEDED, DEMO_DATA, "api-server", *EMULATORS),
        ),
    ]


def _database(settings: StackSettings) -> Part:
    where = ("--programs", settings.postgres, "--data", settings.cluster, "--port", str(settings.ports["database"]))
    access = ("--user", DATABASE_USER, "--password-file", str(settings.database_password))
    command = (sys.executable, "-m", "rejeu.local.servers.postgres", *where, *access)
    # SIGTERM would have it wait until everybody has gone.
    program = Program(DATABASE, command, SERVER_GROUP, stop_seconds=3, stop_signal="INT")
    return Part(program, settings.address("database"), answers_postgres(settings.database_url))


def _tables(settings: StackSettings) -> Part:
    command = (sys.executable, "-m", "rejeu.local.stack.airflow_tables", str(settings.database_made))
    program = Program(TABLES, command, AIRFLOW_GROUP, stop_seconds=1, once=True)
    return Part(program, "", settings.database_made.exists, (DATABASE,))


def _emulator(name: str, command: list[str]) -> Program:
    return Program(name, command, SERVER_GROUP, stop_seconds=2)


def _component(name: str, *arguments: str) -> Program:
    return Program(name, (sys.executable, "-m", "airflow", *arguments), AIRFLOW_GROUP, stop_seconds=1)


def _warm(name: str, *arguments: str) -> Program:
    """A component that forks: its children find imported what it has imported."""
    command = (sys.executable, "-m", "rejeu.local.stack.warm_airflow", *arguments)
    return Program(name, command, AIRFLOW_GROUP, stop_seconds=2)


def _demo_data(settings: StackSettings) -> Part:
    """Fills the emulators while Airflow starts; the scheduler, which runs at once what is due, waits for it."""
    done = settings.demo_data
    command = (sys.executable, "-m", "rejeu.local.demos", settings.dags, str(done))
    return Part(Program(DEMO_DATA, command, SERVER_GROUP, stop_seconds=1, once=True), "", done.exists, EMULATORS)


def _pubsub(settings: StackSettings) -> list[str]:
    from rejeu.local.servers.pubsub_emulator import find_google_emulator

    prefix = find_google_emulator() or [sys.executable, "-m", "rejeu.local.servers.pubsub"]
    return [*prefix, f"--host={HOST}", f"--port={settings.ports['pubsub']}"]


def _bigquery(settings: StackSettings) -> list[str]:
    ports = ["--rest-port", str(settings.ports["bigquery"]), "--grpc-port", str(settings.ports["bigquery_grpc"])]
    store = ["--persistent", "--data-dir", f"{settings.home}/bigquery", "--project", PROJECT]
    return [sys.executable, "-m", "rejeu.local.servers.bigquery", "start", *ports, *store]


def _storage(settings: StackSettings) -> list[str]:
    serve = ["start", "--host", HOST, "--port", str(settings.ports["storage"]), "--default-bucket", BUCKET]
    return [sys.executable, "-m", "gcp_storage_emulator", "-d", str(settings.storage), *serve]


def _bigtable(settings: StackSettings) -> list[str]:
    return [*(find_bigtable_emulator() or []), f"--host={HOST}", f"--port={settings.ports[BIGTABLE]}"]


def _metadata(settings: StackSettings) -> list[str]:
    return [sys.executable, "-m", "rejeu.local.servers.metadata", "--port", str(settings.ports["metadata"])]


def _open_data(settings: StackSettings) -> list[str]:
    return [sys.executable, "-m", "rejeu.local.servers.open_data", "--port", str(settings.ports["open_data"])]
