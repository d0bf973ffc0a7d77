"""The parts of the local stack: what each runs, when it is well, and what must be well before it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rejeu.local.processes.supervision import Program
from rejeu.local.servers.bigtable_emulator import find_bigtable_emulator
from rejeu.local.stack.health import Check, answers_grpc, answers_http, beats
from rejeu.local.stack.settings import BIGTABLE, BUCKET, HOST, PROJECT, Place

EMULATORS: Final = (
    "pubsub",
    "bigquery",
    "storage",
    "metadata",
    "open-data",
    *([BIGTABLE] if find_bigtable_emulator() else []),
)
AIRFLOW: Final = ("api-server", "dag-processor", "triggerer", "scheduler")
PARTS: Final = EMULATORS + AIRFLOW

EMULATOR_GROUP: Final = "emulators"
AIRFLOW_GROUP: Final = "airflow"
DATABASE: Final = "database"
DEMO_DATA: Final = "demo-data"
DEMO: Final = "REJEU_DEMO"
"""The variable that names the stream whose data that is."""
ONCE: Final = frozenset({DATABASE, DEMO_DATA})
"""Not parts: each runs once for a home, and ends."""


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


def parts_of(place: Place, names: Iterable[str]) -> list[Part]:
    """The parts of these names, and what they need once; without Pub/Sub where somebody else's is used."""
    known = {part.name: part for part in (*_emulators(place), *_airflow(place), _demo_data(place))}
    wanted = [known[name] for name in names if name in known]
    needs_database = any(DATABASE in part.after for part in wanted) and not place.database.exists()
    return [_database(place), *wanted] if needs_database else wanted


def _emulators(place: Place) -> list[Part]:
    bigquery, storage, metadata, data = map(place.address, ("bigquery", "storage", "metadata", "open_data"))
    parts = [
        Part(_emulator("bigquery", _bigquery(place)), bigquery, answers_http(bigquery, "/readyz")),
        Part(_emulator("storage", _storage(place)), storage, answers_http(storage, f"/storage/v1/b/{BUCKET}")),
        Part(_emulator("metadata", _metadata(place)), metadata, answers_http(metadata, "/")),
        Part(_emulator("open-data", _open_data(place)), data, answers_http(data, "/")),
    ]
    if BIGTABLE in place.ports:
        bigtable = place.address(BIGTABLE)
        parts.append(Part(_emulator(BIGTABLE, _bigtable(place)), bigtable, answers_grpc(bigtable)))
    if place.own_pubsub:
        parts.insert(0, Part(_emulator("pubsub", _pubsub(place)), place.pubsub, answers_grpc(place.pubsub)))
    return parts


def _airflow(place: Place) -> list[Part]:
    ui = place.address("ui")
    since = datetime.now(UTC)
    server = ("api-server", "--host", HOST, "--port", str(place.ports["ui"]), "--workers", "1")
    return [
        Part(_component("api-server", *server), place.ui_url, answers_http(ui, "/api/v2/version"), (DATABASE,)),
        # Their log servers are for other machines, and listen on fixed ports.
        Part(
            _component("triggerer", "triggerer", "--skip-serve-logs"),
            "",
            beats(ui, "triggerer", since),
            (DATABASE,),
        ),
        # On two cores: beside the API server, which everybody waits for, there is time for one at once.
        Part(_warm("dag-processor", "dag-processor"), "", beats(ui, "dag_processor", since), (DATABASE, "triggerer")),
        # The first task that it starts reports to the API server, and may use any emulator.
        Part(
            _warm("scheduler", "scheduler", "--skip-serve-logs"),
            "",
            beats(ui, "scheduler", since),
            (DATABASE, DEMO_DATA, "api-server", *EMULATORS),
        ),
    ]


def _database(place: Place) -> Part:
    command = (sys.executable, "-m", "rejeu.local.stack.database", str(place.database))
    program = Program(DATABASE, command, AIRFLOW_GROUP, stop_seconds=1, once=True)
    return Part(program, "", place.database.exists)


def _emulator(name: str, command: list[str]) -> Program:
    return Program(name, command, EMULATOR_GROUP, stop_seconds=2)


def _component(name: str, *arguments: str) -> Program:
    return Program(name, (sys.executable, "-m", "airflow", *arguments), AIRFLOW_GROUP, stop_seconds=1)


def _warm(name: str, *arguments: str) -> Program:
    """A component that forks: its children find imported what it has imported."""
    command = (sys.executable, "-m", "rejeu.local.stack.warm_airflow", *arguments)
    return Program(name, command, AIRFLOW_GROUP, stop_seconds=2)


def _demo_data(place: Place) -> Part:
    """Fills the emulators while Airflow starts; the scheduler, which runs at once what is due, waits for it."""
    done = Path(place.home, "demo-data.json")
    stream = os.environ.get(DEMO, "crypto_rates")
    command = (sys.executable, "-m", "rejeu.local.demos", f"{place.root}/dags/streams/{stream}.yaml", str(done))
    return Part(Program(DEMO_DATA, command, EMULATOR_GROUP, stop_seconds=1, once=True), "", done.exists, EMULATORS)


def _pubsub(place: Place) -> list[str]:
    from rejeu.local.servers.pubsub_emulator import find_google_emulator

    prefix = find_google_emulator() or [sys.executable, "-m", "rejeu.local.servers.pubsub"]
    return [*prefix, f"--host={HOST}", f"--port={place.ports['pubsub']}"]


def _bigquery(place: Place) -> list[str]:
    ports = ["--rest-port", str(place.ports["bigquery"]), "--grpc-port", str(place.ports["bigquery_grpc"])]
    store = ["--persistent", "--data-dir", f"{place.home}/bigquery", "--project", PROJECT]
    return [sys.executable, "-m", "rejeu.local.servers.bigquery", "start", *ports, *store]


def _storage(place: Place) -> list[str]:
    serve = ["start", "--host", HOST, "--port", str(place.ports["storage"]), "--default-bucket", BUCKET]
    return [sys.executable, "-m", "gcp_storage_emulator", "-d", str(place.storage), *serve]


def _bigtable(place: Place) -> list[str]:
    return [*(find_bigtable_emulator() or []), f"--host={HOST}", f"--port={place.ports[BIGTABLE]}"]


def _metadata(place: Place) -> list[str]:
    return [sys.executable, "-m", "rejeu.local.servers.metadata", "--port", str(place.ports["metadata"])]


def _open_data(place: Place) -> list[str]:
    return [sys.executable, "-m", "rejeu.local.servers.open_data", "--port", str(place.ports["open_data"])]
