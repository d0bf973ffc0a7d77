"""What every document in a state store has in common: its name, its schema, and how its text is read.

A stream has its own document, and side documents, which others than its holder write. Several versions of Rejeu may
read and write one: each keeps the fields that it does not know.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, ValidationError

from rejeu.errors import StateConflictError, StateError, explain_first
from rejeu.ports import StateStore
from rejeu.spec.names import SHARD_SUFFIX

SCHEMA: Final = 1
"""It grows with a change that an older Rejeu would misread: a field with another meaning, a new value of an old field.
A new field is no such change. Documents without a number are older than it, and are read."""
MAX_LENGTH: Final = 16_000_000
"""Of a document's text. A stream's own holds two requests, and a query in one may have a million characters."""
MAX_DEPTH: Final = 50
"""How many objects and lists may stand within each other."""
CLOCK_YEARS: Final = range(1970, 9990)
"""Of a time of the clock: what is added to one must still be a time."""
D = TypeVar("D", bound="Document")


def _utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"it is {instant}: in UTC it is before the year 1 or after 9999") from None


def _of_the_clock(instant: datetime) -> datetime:
    if instant.year not in CLOCK_YEARS:
        raise ValueError(f"it is {instant}: its year must be {CLOCK_YEARS.start} to {CLOCK_YEARS.stop - 1}")
    return instant


EventTime = Annotated[AwareDatetime, AfterValidator(_utc)]
ClockTime = Annotated[EventTime, AfterValidator(_of_the_clock)]


class Part(BaseModel):
    """A part of a document. Fields that only another version of Rejeu knows are kept, and written back with the part.

    Where the part is replaced by another one, they go with it: they were true of what it was.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class Document(Part):
    """A document as a whole."""

    remedy: ClassVar[str] = "remove that document: it is written again when it is needed"
    """What helps where it cannot be read."""

    schema_version: int = SCHEMA


class SideDocument(StrEnum):
    """A document beside the stream's own, which is not written by the replay that holds the stream."""

    STANDBY = "standby"
    LAUNCH_LOCK = "launch_lock"
    RECONCILED = "reconciled"
    LIVE = "live"
    TOLD = "told"
    BLIND = "blind"

    def of(self, stream: str) -> str:
        """The document's name. Its dot tells it from the stream's own document, whose name has none."""
        return f"{stream}.{self}"


def stream_names(store: StateStore) -> list[str]:
    """The streams and shards that the store knows. Raises StateError."""
    return [name for name in store.names() if "." not in name]


def owner_of(name: str) -> str:
    """The stream whose document this is: its own, a shard's, or one beside these."""
    return re.sub(f"{SHARD_SUFFIX}$", "", name.partition(".")[0])


def read_document(store: StateStore, name: str, kind: type[D]) -> tuple[D | None, int | None]:
    """The document and its version; None and None where there is none. Raises StateError where it cannot be read."""
    found = store.load(name)
    return (None, None) if found is None else (understand(name, found.document, kind), found.version)


def save_document(store: StateStore, name: str, document: Document, expected: int | None) -> int:
    """Write it with all that it holds; return the new version. Raises StateConflictError and StateError."""
    return store.save(name, document.model_dump(mode="json"), expected)


def conflict(name: str, expected: int | None) -> StateConflictError:
    """What a store raises where somebody else wrote the document first."""
    return StateConflictError(f"state of {name} is no longer at version {expected}: read it again")


def understand(name: str, content: dict[str, Any], kind: type[D]) -> D:
    """The document that this content is. Raises StateError."""
    schema = content.get("schema_version", 0)
    if isinstance(schema, int) and schema > SCHEMA:
        raise StateError(
            f"state of {name}: schema_version is {schema}, and this Rejeu reads up to {SCHEMA}: a newer one wrote "
            "it; run that version here too, and leave the document as it is"
        )
    try:
        return kind.model_validate({**content, "schema_version": SCHEMA})
    except ValidationError as error:
        raise StateError(f"state of {name}: {explain_first(error)}: {kind.remedy}") from None


def parse(body: object, where: str) -> dict[str, Any]:
    """The content of a document's text; `where` names it. Raises StateError where it is no document."""
    remedy = "restore an older version of that document; a stream's own holds its cursor"
    if not isinstance(body, str | bytes):
        raise StateError(f"{where}: its text is {body!r}: {remedy}")
    if len(body) > MAX_LENGTH:
        raise StateError(f"{where}: it is {len(body):,} long, and at most {MAX_LENGTH:,} are read: {remedy}")
    try:
        content = json.loads(body)
        if re.search(r"\\u[dD][89a-fA-F]", body if isinstance(body, str) else body.decode()):
            json.dumps(content, ensure_ascii=False).encode()  # half a pair of surrogates is no text, and fails late
    except (ValueError, RecursionError) as error:
        raise StateError(f"{where}: it is not JSON ({error}): {remedy}") from error
    if not isinstance(content, dict):
        raise StateError(f"{where}: it is a {type(content).__name__}, and must be a JSON object: {remedy}")
    if _is_deeper(content, MAX_DEPTH):
        raise StateError(f"{where}: more than {MAX_DEPTH} objects and lists stand within each other: {remedy}")
    return content


def _is_deeper(content: object, depth: int) -> bool:
    level: list[object] = [content]
    for _ in range(depth + 1):
        level = [
            each
            for outer in level
            if isinstance(outer, dict | list)
            for each in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
