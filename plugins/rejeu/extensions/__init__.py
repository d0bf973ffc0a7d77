"""The package whose modules are users' own: those beside the specs, and those of the folders of REJEU_EXTENSIONS.

A file `dates.py` beside the specs is imported as `rejeu.extensions.dates`, in every process and container alike: it
hides no other module of its name, and what a job pickles there is found again on the workers. How a module brings a
pipeline, a launcher, a probe, a source or a generator is in `rejeu.registry`.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from pathlib import Path
from typing import Final

FOLDERS: Final = "REJEU_EXTENSIONS"
"""The variable that names folders of such modules, separated by colons."""

__path__: list[str] = []  # type: ignore[no-redef]  # a package of several folders, none of which is this one


def look_in(folder: Path) -> None:
    """Modules of this folder are extensions from now on, behind those of the folders before it; it may have none."""
    path = str(folder.absolute())
    if path not in __path__ and any(pkgutil.iter_modules([path])):
        __path__.append(path)
        importlib.invalidate_caches()


def environment() -> dict[str, str]:
    """What a process of this machine must be told to find the same modules."""
    return {FOLDERS: os.pathsep.join(__path__)} if __path__ else {}


for _folder in filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)):
    look_in(Path(_folder))
