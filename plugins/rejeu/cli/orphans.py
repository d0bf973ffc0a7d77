"""The command about streams that nobody's spec owns: list them, and stop and remove them on request."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rejeu.cli import homes
from rejeu.cli.commands import Commands
from rejeu.cli.console import errors, say
from rejeu.cli.folders import dags_folder
from rejeu.errors import RejeuError, RequestError
from rejeu.spec.files import Loaded, load_specs, spec_folders
from rejeu.target import KEPT

if TYPE_CHECKING:
    from rejeu.orphans.finding import Orphan
    from rejeu.orphans.removing import Belongings, Remover


def add_to(commands: Commands) -> None:
    """The commands of this module."""
    orphans_ = commands.add(
        "orphans",
        orphans,
        "List the streams of the state store that no valid spec declares, with all that belongs to them: jobs, "
        "subscriptions, documents and files. On request, stop and remove that; topics and tables stay.",
    )
    orphans_.add_argument("streams", nargs="*", metavar="STREAM", help="these only; default: all")
    orphans_.add_argument(
        "--dags", type=Path, metavar="DIR", help="the specs are in DIR/streams; default: the target's"
    )
    orphans_.add_argument(
        "--remove", action="store_true", help="stop and remove what is listed; a stream that is live must be named"
    )


def orphans(arguments: argparse.Namespace) -> int:
    """Say what there is and what will be done, then do it; one that fails keeps no other from its end."""
    from rejeu.gcp.clients import subscriber_client
    from rejeu.launchers.choose import job_launcher, replay_launcher
    from rejeu.orphans.finding import find_orphans
    from rejeu.orphans.removing import Remover
    from rejeu.state import open_store

    target = homes.target()
    loaded = load_specs([arguments.dags / "streams"] if arguments.dags else spec_folders(dags_folder()))
    store = open_store(target.state)
    found = find_orphans(store, loaded)
    remover = Remover(target, store, replay_launcher(target), job_launcher(target), subscriber_client(), time.sleep)
    cleaning = _Cleaning(remover, loaded, found, _named(arguments.streams, loaded, found), arguments.remove)
    return cleaning.run()


def _named(streams: Sequence[str], loaded: Sequence[Loaded], found: Sequence[Orphan]) -> set[str]:
    """The streams that the command line names. Raises RequestError for one that there is not."""
    known = {orphan.stream for orphan in found} | {each.name for each in loaded if each.spec is not None}
    if unknown := [stream for stream in streams if stream not in known]:
        raise RequestError(f"{unknown[0]!r} is no stream of the state store, and no spec declares it: name one that is")
    return set(streams)


class _Cleaning:
    """One run of the command."""

    def __init__(
        self, remover: Remover, loaded: Sequence[Loaded], found: Sequence[Orphan], named: set[str], remove: bool
    ) -> None:
        self._remover, self._found, self._named, self._remove = remover, found, named, remove
        self._specs = [each.spec for each in loaded if each.spec is not None]
        self._failed: RejeuError | None = None

    def run(self) -> int:
        """The exit code."""
        chosen = [orphan for orphan in self._found if not self._named or orphan.stream in self._named]
        left = self._left_subscriptions()
        folders = [] if self._named else self._remover.old_folders(self._known)
        for orphan in chosen:
            self._see_to(orphan)
        for stream, name in left:
            self._see_to_subscription(stream, name)
        for folder, count in folders:
            self._see_to_folder(folder, count)
        if not (chosen or left or folders):
            say("nothing is orphaned: each stream of the state store has its spec")
        elif not self._remove:
            say("Nothing was changed: --remove stops and removes what is listed. Topics and tables stay.")
        return 0 if self._failed is None else self._failed.exit_code

    @property
    def _known(self) -> set[str]:
        return {spec.stream for spec in self._specs} | {orphan.stream for orphan in self._found}

    def _see_to(self, orphan: Orphan) -> None:
        """Say what there is of it, and remove it where that is wanted."""
        for line in _described(orphan, self._remover.look(orphan)):
            say(line)
        if not self._remove:
            return
        if orphan.broken is not None:
            say(f"  kept: it may be the stream of {orphan.broken}; mend that file, or remove it")
        elif orphan.is_live and orphan.stream not in self._named:
            say(f"  kept: it is live; `rejeu orphans {orphan.stream} --remove` stops and removes it")
        else:
            say("  stopping and removing all of it; a streaming job has time to write what it was sent")
            self._try(orphan.stream, lambda: self._remover.remove(orphan))

    def _left_subscriptions(self) -> list[tuple[str, str]]:
        from rejeu.gcp.topics import existing_subscriptions
        from rejeu.orphans.finding import left_subscriptions

        specs = [spec for spec in self._specs if not self._named or spec.stream in self._named]
        left = left_subscriptions(self._remover.store, specs, self._remover.target)
        there = existing_subscriptions(self._remover.subscriber, [name for _, name in left])
        return [(stream, name) for stream, name in left if name in there]

    def _see_to_subscription(self, stream: str, name: str) -> None:
        say(f"{stream}: has its spec, and left {name} of a topic that it had before")
        if self._remove:
            say("  removing it, with what nobody has read of it")
            self._try(stream, lambda: self._remover.forget_subscription(stream, name))

    def _see_to_folder(self, folder: str, count: int) -> None:
        say(f"{folder}: {count:,} files older than {KEPT.days} days, of a stream that nobody knows")
        if self._remove:
            say("  removing them")
            self._try(folder, lambda: self._remover.remove_old(folder))

    def _try(self, what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except RejeuError as error:
            self._failed = error
            errors.print(f"{what}: not all of it was removed: {error}", markup=False)
        else:
            say("  done")


def _described(orphan: Orphan, left: Belongings) -> Iterator[str]:
    """The orphan and what there is of it, a line for each kind."""
    why = "no spec declares it" if orphan.broken is None else f"its spec may be {orphan.broken}, which is broken"
    yield f"{orphan.stream}: {why}; {'it is live' if orphan.is_live else 'it is not live'}"
    kinds = {
        "jobs": [f"{job.name} ({job.state})" for job in left.jobs],
        "subscriptions": left.subscriptions,
        "files": [f"{folder} ({count:,})" for folder, count in left.folders],
        "documents": left.documents,
    }
    for kind, names in kinds.items():
        if names:
            yield f"  {kind}: {', '.join(names)}"
