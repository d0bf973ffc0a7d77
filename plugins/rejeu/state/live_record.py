"""The live record: a side document with the spec under which a stream went live, and what was made for it.

Whoever finds a stream in the store and no spec of it any more goes by this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from pydantic import ValidationError

from rejeu.errors import StateConflictError, StateError, explain_first
from rejeu.ports import StateStore
from rejeu.spec.model import StreamSpec
from rejeu.spec.probes import PROBES
from rejeu.state.documents import Document, SideDocument, read_document, save_document
from rejeu.target import Target

TRIES: Final = 5
"""How often a record is written at once, where another write was first."""


class LiveRecord(Document):
    """What is remembered of a stream that went live."""

    spec: dict[str, Any]
    """Its spec, as its file said it."""
    subscriptions: tuple[str, ...] = ()
    """Full names of all that were made for it: where its topic changes, the one before stays behind."""


def remember_live(store: StateStore, spec: StreamSpec, target: Target, *, goes_live: bool = True) -> None:
    """Remember that the stream goes live under this spec, before anything is made for it. Raises StateError.

    Where it does not go live, as before a batch, the spec under which it may run stays.
    """
    content = spec.model_dump(mode="json", exclude_unset=True)

    def remembered(found: LiveRecord | None) -> LiveRecord:
        made = tuple(dict.fromkeys([*(found.subscriptions if found else ()), *subscriptions_of(spec, target)]))
        if found is None:
            return LiveRecord(spec=content, subscriptions=made)
        return found.model_copy(update={"spec": content if goes_live else found.spec, "subscriptions": made})

    _update(store, spec.stream, remembered)


def forget_subscription(store: StateStore, stream: str, subscription: str) -> None:
    """Remember no longer that this one was made. Raises StateError."""

    def kept(found: LiveRecord | None) -> LiveRecord | None:
        if found is None:
            return None
        return found.model_copy(
            update={"subscriptions": tuple(each for each in found.subscriptions if each != subscription)}
        )

    _update(store, stream, kept)


def _update(store: StateStore, stream: str, change: Callable[[LiveRecord | None], LiveRecord | None]) -> None:
    """Apply `change` to the newest record, and try again where another write was first. Raises StateError."""
    name = SideDocument.LIVE.of(stream)
    for _ in range(TRIES):
        found, version = read_document(store, name, LiveRecord)
        record = change(found)
        if record is None or record == found:
            return
        with suppress(StateConflictError):
            save_document(store, name, record, version)
            return
    raise StateConflictError(f"{name}: {TRIES} writers came first: check what writes in a loop")


def subscriptions_of(spec: StreamSpec, target: Target) -> list[str]:
    """The full names of those that the stream has."""
    has_tap = any(PROBES[name].needs_tap for name in spec.watchdog.probe)
    return [target.subscription(each) for each in (spec.subscription, *([spec.tap] if has_tap else []))]


def recorded_streams(names: Iterable[str]) -> list[str]:
    """Of the names of a store's documents: the streams that have a live record."""
    suffix = f".{SideDocument.LIVE}"
    return [name.removesuffix(suffix) for name in names if name.endswith(suffix)]


def read_record(store: StateStore, stream: str) -> LiveRecord | None:
    """What is remembered of the stream; None where it never went live. Raises StateError."""
    found, _ = read_document(store, SideDocument.LIVE.of(stream), LiveRecord)
    return found


def spec_of(record: LiveRecord) -> StreamSpec:
    """The spec under which the stream went live. Raises StateError where this Rejeu cannot read it."""
    try:
        return StreamSpec.model_validate(record.spec)
    except ValidationError as error:
        raise StateError(
            f"live record of {record.spec.get('stream')}: {explain_first(error)}: another Rejeu wrote it, or what it "
            "names is gone; run that version here, bring that back, or mend the stream's spec and run its live DAG"
        ) from None
