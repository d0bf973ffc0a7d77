"""What one local stack is: its folders, ports and secrets, and the environment that follows from them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import sys
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Self

from rejeu.errors import StackError
from rejeu.local.processes.leftovers import MARK
from rejeu.local.processes.ports import HOST, free_ports, is_free
from rejeu.local.servers.bigtable_emulator import find_bigtable_emulator
from rejeu.local.servers.postgres import find_postgres

PROJECT: Final = "rejeu-local"
BUCKET: Final = "rejeu-local-bucket"
USER: Final = "admin"
DATABASE_USER: Final = "airflow"
SERVERS: Final = ("ui", "pubsub", "bigquery", "bigquery_grpc", "storage", "metadata", "open_data", "database")
CLIENT: Final = "REJEU_CLIENT"
"""The variable of whoever works with a stack and is no part of it: a shell, an editor. Its value is the stack's id."""
BIGTABLE: Final = "bigtable"
"""One server more, where this machine has it."""
NOT_INHERITED: Final = {"GOOGLE_APPLICATION_CREDENTIALS", "PYTHONDONTWRITEBYTECODE"}
"""With the second, which containers set, each of a stack's many processes would compile all that it imports."""


@dataclass(frozen=True)
class StackSettings:
    """Where one stack lives. `pubsub` is an address; `own_pubsub` says whether it is ours to start and stop.

    `postgres` is the folder of PostgreSQL's programs, `cluster` the one of its data.
    """

    stack: str
    home: str
    dags: str
    ports: dict[str, int]
    pubsub: str
    own_pubsub: bool
    postgres: str
    cluster: str
    keys: dict[str, str]

    @classmethod
    def choose(cls, dags: Path, home: Path) -> Self:
        """Free ports, the same ones each time if they can be had, and the secrets of this home.

        Raises StackError where `REJEU_UI_PORT` asks for a port that cannot be had, or there is no PostgreSQL.
        """
        stack = stack_id(home)
        free = free_ports(int.from_bytes(hashlib.blake2b(stack.encode(), digest_size=4).digest()))
        servers = (*SERVERS, BIGTABLE) if find_bigtable_emulator() else SERVERS
        ports = {server: next(free) for server in servers} | _wanted_ui_port()
        postgres = find_postgres()
        # Within the environment of a stack the variable names that stack's own Pub/Sub.
        given = None if {MARK, CLIENT} & os.environ.keys() else os.environ.get("PUBSUB_EMULATOR_HOST")
        return cls(
            stack=stack,
            home=str(home),
            dags=str(dags),
            ports=ports,
            pubsub=given or f"{HOST}:{ports['pubsub']}",
            own_pubsub=not given,
            postgres=str(postgres.programs),
            cluster=str(home / f"postgres-{postgres.major}"),
            keys=_keys(home / "keys.json"),
        )

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """What was saved there; None if there is none. Raises StackError where it is no such thing."""
        kept = _read_json(file, f"end what `ps` shows of its stack, remove {file}, and run `rejeu up`")
        if kept is None:
            return None
        missing = [each.name for each in fields(cls) if each.name not in kept]
        if missing:
            raise StackError(
                f"{file} has no {missing[0]}: another version of Rejeu wrote it; run `rejeu down` of that one"
            )
        return cls(**{each.name: kept[each.name] for each in fields(cls)})

    def save(self, file: Path) -> None:
        """Write it for `read`, for the owner's eyes only."""
        write_private(file, asdict(self))

    def address(self, server: str) -> str:
        """`host:port` of one of SERVERS, or of BIGTABLE."""
        return self.pubsub if server == "pubsub" else f"{HOST}:{self.ports[server]}"

    @property
    def airflow_home(self) -> Path:
        return Path(self.home, "airflow")

    @property
    def database(self) -> str:
        """Named after the version that made it: another Airflow starts with a database of its own."""
        return f"airflow-{version('apache-airflow')}"

    @property
    def database_url(self) -> str:
        """With the password, as the drivers of both of Airflow's engines take it."""
        return (
            f"postgresql+psycopg2://{DATABASE_USER}:{self.keys['database']}@{self.address('database')}/{self.database}"
        )

    @property
    def database_made(self) -> Path:
        """The file that says that the database has all its tables; it goes with the data."""
        return Path(self.cluster, f"{self.database}.made")

    @property
    def demo_data(self) -> Path:
        """The file that says of which day the examples' data is, once it is written."""
        return Path(self.home, "demo-data.json")

    @property
    def database_password(self) -> Path:
        return Path(self.home, "database-password")

    @property
    def passwords(self) -> Path:
        return self.airflow_home / "passwords.json"

    @property
    def storage(self) -> Path:
        """Objects lie below as `.cloudstorage/BUCKET/NAME`."""
        return Path(self.home, "storage")

    @property
    def ui_url(self) -> str:
        return f"http://{self.address('ui')}"

    def variables(self) -> dict[str, str]:
        """What the stack adds to the environment of whoever works with it."""
        return (
            self._google()
            | self._bigtable()
            | self._airflow()
            | {
                CLIENT: self.stack,
                "REJEU_HOME": self.home,
                "REJEU_PROJECT": PROJECT,
                "REJEU_BUCKET": BUCKET,
                "REJEU_STATE": f"sqlite:{self.home}/state.db",
                "REJEU_OPEN_DATA": f"http://{self.address('open_data')}",
                "REJEU_DAGS": self.dags,
                # The triggerer reads no spec, and so would not look beside them.
                "REJEU_EXTENSIONS": os.environ.get("REJEU_EXTENSIONS") or f"{self.dags}/streams",
            }
        )

    def environment(self) -> dict[str, str]:
        """The whole environment of a client: the caller's, without its own Google and Airflow settings."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in NOT_INHERITED and not name.startswith("AIRFLOW__")
        }
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        local = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST, "localhost"]))
        # gRPC reads the small letters, others the capitals.
        return inherited | self.variables() | {"PATH": programs, "NO_PROXY": local, "no_proxy": local}

    def environment_of_parts(self) -> dict[str, str]:
        """The whole environment of what belongs to the stack, and ends with it."""
        # setproctitle, which Airflow calls, otherwise overwrites the environment that leftovers are found by.
        return self.environment() | {MARK: self.stack, "SPT_NOENV": "1"}

    def _google(self) -> dict[str, str]:
        return {
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "CLOUDSDK_CONFIG": f"{self.home}/gcloud",
            "GCE_METADATA_HOST": self.address("metadata"),
            "GCE_METADATA_IP": self.address("metadata"),
            "PUBSUB_EMULATOR_HOST": self.pubsub,
            "PUBSUB_PROJECT_ID": PROJECT,
            "BIGQUERY_EMULATOR_HOST": f"http://{self.address('bigquery')}",
            "BIGQUERY_STORAGE_EMULATOR_HOST": self.address("bigquery_grpc"),
            "STORAGE_EMULATOR_HOST": f"http://{self.address('storage')}",
            "BQEMU_GCS_LOCAL_ROOT": str(self.storage / ".cloudstorage"),
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(
                {"conn_type": "google_cloud_platform", "extra": {"project": PROJECT}}
            ),
        }

    def _bigtable(self) -> dict[str, str]:
        if BIGTABLE not in self.ports:
            return {}
        return {"REJEU_BIGTABLE": PROJECT, "BIGTABLE_EMULATOR_HOST": self.address(BIGTABLE)}

    def _airflow(self) -> dict[str, str]:
        settings = {
            "CORE__DAGS_FOLDER": self.dags,
            # Beside it, as in a managed Airflow's bucket.
            "CORE__PLUGINS_FOLDER": str(Path(self.dags).parent / "plugins"),
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.passwords),
            "CORE__FERNET_KEY": self.keys["fernet"],
            "CORE__EXECUTION_API_SERVER_URL": f"{self.ui_url}/execution/",
            "DATABASE__SQL_ALCHEMY_CONN": self.database_url,
            "API__BASE_URL": self.ui_url,
            "API__SECRET_KEY": self.keys["session"],
            "API_AUTH__JWT_SECRET": self.keys["jwt"],
        } | AIRFLOW_SETTINGS
        return {"AIRFLOW_HOME": str(self.airflow_home)} | {f"AIRFLOW__{name}": text for name, text in settings.items()}


AIRFLOW_SETTINGS: Final = {
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "CORE__EXECUTOR": "LocalExecutor",
    "CORE__PARALLELISM": "6",
    "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "2",
    "API__WORKERS": "1",
    # Short waits: someone looks on. The defaults suit fleets.
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "2",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
    "DAG_PROCESSOR__PRINT_STATS_INTERVAL": "0",
    # What was killed is missed and taken over after seconds, not minutes.
    "SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    # So long may a task that has ended go unnoticed.
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    # Two busy cores may keep a healthy server from answering for longer than the default of 5 s.
    "WORKERS__EXECUTION_API_TIMEOUT": "20",
}


def stack_id(home: Path) -> str:
    """The same home always has the same id, so that what runs is found even where every file is lost."""
    return f"rejeu-{hashlib.blake2b(str(home).encode(), digest_size=6).hexdigest()}"


def write_private(file: Path, document: object) -> None:
    """Write JSON that only its owner can read, whole or not at all."""
    write_private_text(file, json.dumps(document, indent=1))


def write_private_text(file: Path, text: str) -> None:
    """The same of plain text."""
    partial = file.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def _keys(file: Path) -> dict[str, str]:
    """The secrets of a home, made once: what Airflow encrypted must stay readable."""
    kept = _read_json(file, f"restore it, or remove {file.parent} with all that the stack knows") or {}
    made = {"fernet": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}
    made |= {name: secrets.token_urlsafe(64) for name in ("jwt", "session")}
    made |= {name: secrets.token_urlsafe(12) for name in ("password", "database")}
    keys = made | kept
    if keys != kept:
        write_private(file, keys)
    return keys


def _read_json(file: Path, remedy: str) -> dict[str, Any] | None:
    """What a file of the stack says; None where there is none. Raises StackError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise StackError(f"{file} cannot be read: {error}; {remedy}") from error
    if not isinstance(content, dict):
        raise StackError(f"{file} is a {type(content).__name__}, and must be a JSON object; {remedy}")
    return content


def _wanted_ui_port() -> dict[str, int]:
    wanted = os.environ.get("REJEU_UI_PORT")
    if not wanted:
        return {}
    if not wanted.isdecimal() or not 0 < int(wanted) < 65_536:
        raise StackError(f"REJEU_UI_PORT is {wanted!r}: it must be a port, 1 to 65535; set another or unset it")
    if not is_free(int(wanted)):
        raise StackError(
            f"REJEU_UI_PORT is {wanted}: it must be free, but another program listens there; "
            f"stop that program (`ss -ltnp 'sport = :{wanted}'` names it), set another port or unset it"
        )
    return {"ui": int(wanted)}
