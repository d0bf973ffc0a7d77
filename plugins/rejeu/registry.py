"""How Rejeu finds what can be added to it: pipelines, launchers, probes, sources and generators, each by its name.

An extension is a module that says what it brings in one record, such as `PIPELINE = Pipeline(...)`. Rejeu's own stand
in packages of Rejeu, users' stand beside the specs or in the folders of REJEU_EXTENSIONS, or come in a distribution as
an entry point of the registry's group. All are looked for once a process, by file and by metadata, and a record is
imported when somebody asks for it: an extension that is broken breaks nothing but what names it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Generic, TypeVar

from rejeu import extensions
from rejeu.errors import ExtensionError, told

Record = TypeVar("Record")

EXTENSIONS: Final = extensions.__name__
OF_OTHERS: Final[set[str]] = set()
"""The modules from outside of Rejeu that any registry of this process was asked for."""


@dataclass(frozen=True)
class Origin:
    """Where a record stands: `object` of `module`; `told` says it to a person."""

    module: str
    object: str
    told: str

    def __str__(self) -> str:
        return self.told


class Registry(Generic[Record]):
    """The extensions of one kind. `in` and iteration import none of them."""

    def __init__(self, noun: str, record: type[Record], package: str, *, dashes: bool = False) -> None:
        """`noun` is what a person calls one, such as `pipeline`: its record is called PIPELINE, its group of entry
        points `rejeu.pipelines`. `package` has Rejeu's own. With `dashes`, names have dashes for underscores."""
        self.noun, self.group = noun, f"rejeu.{noun}s"
        self._record, self._package, self._dashes = record, package, dashes
        self.loaded: dict[str, Record] = {}
        """What was asked for so far; a test may put a record of its own here (`rejeu.testing.registered`)."""
        self._origins: dict[str, list[Origin]] = {}
        self._seen: tuple[str, ...] | None = None

    def find(self, name: str, field: str) -> Record:
        """The record of this name. Raises ExtensionError, which says of what `field` the name is the value."""
        self.check(name, field)
        try:
            return self[name]
        except ExtensionError as error:
            raise ExtensionError(f"{field} is {told(name)}: {error}") from error.__cause__

    def check(self, name: str, field: str) -> None:
        """Raises ExtensionError where there is none of this name; no record is imported."""
        if name not in self:
            rule = f"it must be one of {', '.join(self)}" if list(self) else f"no {self.noun} of any name is there"
            raise ExtensionError(f"{field} is {told(name)}: {rule}")

    def __getitem__(self, name: str) -> Record:
        """The record of this name. Raises ExtensionError where there is none, or two, or it cannot be imported."""
        if name not in self.loaded:
            self.loaded[name] = self._load(name)
        return self.loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self.loaded or name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all().keys() | self.loaded.keys()))

    def _load(self, name: str) -> Record:
        origins = self._all().get(name, [])
        if not origins:
            raise ExtensionError(f"there is no {self.noun} {name!r}; there are {', '.join(self)}")
        if len(origins) > 1:
            raise ExtensionError(f"there are two of this name, {' and '.join(map(str, origins))}; rename one of them")
        [origin] = origins
        if not origin.module.startswith(f"{self._package}."):
            OF_OTHERS.add(origin.module)
        try:
            found = getattr(importlib.import_module(origin.module), origin.object)
        except (Exception, SystemExit) as error:  # whatever a module of somebody else's does when it is imported
            reason = f"{type(error).__name__}: {error}"
            raise ExtensionError(
                f"{origin} cannot be imported ({reason}); mend it, or install what it needs"
            ) from error
        if not self._is_record(found):
            wanted = f"a {self._record.__name__}"
            raise ExtensionError(f"{origin} has {found!r} for {origin.object}: it must be {wanted}; see its docstring")
        return found  # type: ignore[no-any-return]

    def _is_record(self, found: object) -> bool:
        """Whether it is one, or, where records are classes, one of those."""
        return isinstance(found, self._record)

    def _all(self) -> dict[str, list[Origin]]:
        """Where each name's records stand, looked up anew where folders have come."""
        folders = tuple(extensions.__path__)
        if self._seen != folders:
            found: dict[str, list[Origin]] = {}
            for package in (self._package, EXTENSIONS):
                for module, file in _modules(package):
                    if _says(file, self.noun.upper()):
                        name = module.rpartition(".")[2]
                        name = name.replace("_", "-") if self._dashes else name
                        found.setdefault(name, []).append(Origin(module, self.noun.upper(), str(file)))
            for distribution, point in _entry_points():
                if point.group == self.group:
                    told = f"{point.value} of the distribution {distribution}"
                    found.setdefault(point.name, []).append(Origin(point.module, point.attr, told))
            self._origins, self._seen = found, folders
        return self._origins


def _modules(package: str) -> Iterator[tuple[str, Path]]:
    """The modules of a package, and the files that are read when they are imported; none of them is imported here.

    A name that two folders have comes twice, though Python would import the first alone.
    """
    try:
        folders = importlib.import_module(package).__path__
    except ModuleNotFoundError:  # the replay's image brings no beam_jobs
        return
    for folder in folders:
        for module in pkgutil.iter_modules([folder]):
            path = Path(folder, module.name)
            yield f"{package}.{module.name}", path / "__init__.py" if module.ispkg else path.with_suffix(".py")


def _says(file: Path, record: str) -> bool:
    """Whether the module's text gives this name a value."""
    try:
        return (
            re.search(rf"^{record}\b.*=", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) is not None
        )
    except OSError:
        return False


@cache
def _entry_points() -> list[tuple[str, importlib.metadata.EntryPoint]]:
    """What the installed distributions bring to any registry, read once a process.

    `importlib.metadata.entry_points` parses what all distributions have for anybody, and does so for each group: 30 ms
    of CPU each time with the 340 distributions of a worker. Looking at the text first takes 11 ms, for all registries.
    """
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for distribution in importlib.metadata.distributions():
        if "[rejeu." in (distribution.read_text("entry_points.txt") or ""):
            # Of one that lies twice on the path Python imports the first.
            found.setdefault(distribution.name, list(distribution.entry_points))
    return [(name, point) for name, points in found.items() for point in points]
