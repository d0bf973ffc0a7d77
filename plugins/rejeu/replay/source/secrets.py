"""Looks secrets up where they are needed, keeps them in this process alone, and masks them in what it says."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from pydantic import JsonValue

from rejeu.errors import RejeuError, SourceError
from rejeu.gcp.secrets import MISSING, read_secret
from rejeu.spec.secrets import REFERENCE, Reference, references

CONNECTIONS: Final = "airflow-connections-"
"""What the names of secrets begin with that Airflow's own backend of Secret Manager reads connections from."""


class Secrets(logging.Filter):
    """The secrets of one source. As a filter it masks them in what a logger is given."""

    def __init__(self, project: str) -> None:
        super().__init__()
        self._project = project
        self._known: dict[Reference, str] = {}
        self._shown: dict[str, str] = {}
        """Each secret as it may be written somewhere, and the reference to show in its place."""

    def fill(self, value: JsonValue, form: Callable[[str], str] = str) -> JsonValue:
        """The same with every secret in its place, in a text in this form. Raises SourceError where one is missing."""
        if isinstance(value, str):
            return REFERENCE.sub(lambda found: form(self._value(next(references(found[0])))), value)
        if isinstance(value, list):
            return [self.fill(each) for each in value]
        if isinstance(value, dict):
            return self.fill_options(value)
        return value

    def fill_options(self, options: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """The options of a reader, filled at any depth."""
        return {name: self.fill(each) for name, each in options.items()}

    def mask(self, text: str) -> str:
        """The text with references in the place of secrets."""
        for secret in sorted(self._shown, key=len, reverse=True):
            text = text.replace(secret, self._shown[secret])
        return text

    @contextmanager
    def masking(self) -> Iterator[None]:
        """What is raised in here says no secret."""
        try:
            yield
        except RejeuError as error:
            if (told := self.mask(str(error))) == str(error):
                raise
            raise type(error)(told) from None

    def guard(self, library: str) -> None:
        """Mask secrets in what the modules of a library log that are imported by now."""
        for name in [*logging.root.manager.loggerDict]:
            if f"{name}.".startswith(f"{library}."):
                logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, with references in the place of secrets, and no traceback, which may have some."""
        record.msg, record.args, record.exc_info = self.mask(record.getMessage()), None, None
        return True

    def _value(self, reference: Reference) -> str:
        if reference not in self._known:
            value = self._looked_up(reference).strip()
            if not (value and value.isascii() and value.isprintable()):
                raise SourceError(f"{reference} is empty, or has characters that nothing can be asked with; mend it")
            self._known[reference] = value
            self._shown |= {value: str(reference), quote(value, safe=""): str(reference)}
        return self._known[reference]

    def _looked_up(self, reference: Reference) -> str:
        kind, name = reference
        if kind == "connection":
            return _password(reference, self._connection(reference))
        if kind == "secret":
            found, remedy = read_secret(name, self._project), MISSING
        else:
            found, remedy = os.environ.get(name), "set it in the environment of what starts the replay"
        if found is None:
            raise SourceError(f"{reference} is not there, where the replay runs: {remedy}")
        return found

    def _connection(self, reference: Reference) -> str:
        """The connection as Airflow keeps it outside of its database, which no job may ask."""
        variable, secret = f"AIRFLOW_CONN_{reference.name.upper()}", f"{CONNECTIONS}{reference.name}"
        found = os.environ.get(variable) or read_secret(secret, self._project)
        if found is None:
            raise SourceError(
                f"{reference} is not there: a replay finds connections in the variable {variable}, or as the secret "
                f"{secret} of Secret Manager, not in Airflow's database; put it into one of them"
            )
        return found


def _password(reference: Reference, connection: str) -> str:
    """Of a connection, which is JSON or a URI (https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html)."""
    try:
        if connection.lstrip().startswith("{"):
            password = json.loads(connection).get("password")
        else:
            password = unquote(urlsplit(connection).password or "")
    except (ValueError, RecursionError):
        password = None
    if not isinstance(password, str) or not password:
        raise SourceError(f"{reference} has no password: write the secret into the connection's password")
    return password
