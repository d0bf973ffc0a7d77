"""Which streams of the state store no valid spec declares, and whose spec a broken file may be."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rejeu.errors import RequestError, StateError
from rejeu.jobs.request import ReplayRequest
from rejeu.ports import StateStore
from rejeu.spec.files import Loaded
from rejeu.spec.model import StreamSpec
from rejeu.spec.names import dashed
from rejeu.state.documents import owner_of
from rejeu.state.lease import read_state
from rejeu.state.live_record import read_record, recorded_streams, spec_of, subscriptions_of
from rejeu.state.model import StreamState
from rejeu.target import Target


@dataclass(frozen=True)
class Orphan:
    """A stream that the state store knows and no valid spec declares."""

    stream: str
    documents: tuple[str, ...]
    """The names of all documents that are its own, its shards' and beside these."""
    is_live: bool
    """Whether it went live and is wanted, or publishes just now, as far as can be known."""
    broken: Path | None = None
    """The file that may be its spec, once it is mended."""
    has_twin: bool = True
    """Whether the name of a twin's job is its own, and not that of another stream's replay."""


def live_orphans(store: StateStore, declared: Collection[str]) -> list[str]:
    """The streams that went live and are not declared, sorted. Raises StateError."""
    return sorted(set(recorded_streams(store.names())) - set(declared))


def find_orphans(store: StateStore, loaded: Sequence[Loaded]) -> list[Orphan]:
    """All streams of the store without a valid spec among these.

    Raises RequestError where there is no spec at all: it is the wrong folder, and every stream an orphan.
    """
    if not loaded:
        raise RequestError(
            "there is no spec: every stream of the state store would be an orphan; name the folder with --dags"
        )
    declared = {each.name for each in loaded if each.spec is not None}
    owned: dict[str, list[str]] = {}
    for name in store.names():
        if (stream := owner_of(name)) and stream not in declared:
            owned.setdefault(stream, []).append(name)
    texts = {each.file: _text(each.file) for each in loaded if each.spec is None}
    now = datetime.now(UTC)
    return [
        Orphan(
            stream,
            tuple(names),
            is_live=any(_is_live(store, name, now) for name in names if "." not in name),
            broken=_named_in(stream, texts),
            has_twin=f"{stream}_twin" not in declared | owned.keys(),
        )
        for stream, names in sorted(owned.items())
    ]


def left_subscriptions(store: StateStore, specs: Sequence[StreamSpec], target: Target) -> list[tuple[str, str]]:
    """Streams with a spec, each with a subscription of a topic that it had before. Raises StateError."""
    recorded = set(recorded_streams(store.names()))
    left = []
    for spec in specs:
        record = read_record(store, spec.stream) if spec.stream in recorded else None
        state = read_state(store, spec.stream)
        if record is None or (state is not None and state.wanted and not (state.request or state.announced)):
            continue  # where somebody else publishes, nobody knows which of its topics the streaming job reads
        # A file may be ahead of what runs, and a replay that lives is left alone by `live`.
        used = {*subscriptions_of(spec, target), *subscriptions_of(spec_of(record), target)}
        used |= {*requested_subscriptions(state, target)}
        left += [(spec.stream, name) for name in record.subscriptions if name not in used]
    return left


def requested_subscriptions(state: StreamState | None, target: Target) -> list[str]:
    """The full names that follow from the topics of the stored requests. Raises RequestError."""
    if state is None:
        return []
    topics = {
        ReplayRequest.from_stored(argv).topic_path.rpartition("/")[2]
        for argv in (state.request, state.announced)
        if argv
    }
    own = [f"{topic}-{dashed(state.stream)}" for topic in sorted(topics)]
    return [target.subscription(f"{name}{tap}") for name in own for tap in ("", "-tap")]


def _is_live(store: StateStore, name: str, now: datetime) -> bool:
    try:
        state = read_state(store, name)
        if state is None:
            return False
        return state.is_leased(now) or (state.wanted and read_record(store, owner_of(name)) is not None)
    except StateError:
        return True


def _named_in(stream: str, texts: dict[Path, str | None]) -> Path | None:
    """The broken file that names the stream, or that nobody can read."""
    word = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(stream)}(?![A-Za-z0-9_])")
    return next((file for file, text in texts.items() if text is None or word.search(f"{file.stem} {text}")), None)


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
