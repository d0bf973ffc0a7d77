"""Where the local stacks of this folder live, and the target that commands speak to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rejeu.cli.folders import dags_folder
from rejeu.target import Target

if TYPE_CHECKING:
    from rejeu.local.stack.stack import Stack

HOME: Final = Path(".rejeu")
DEMO_HOME: Final = HOME / "demo"


def running() -> Path:
    """The home of the stack that is up: `up`'s, else a kept demo's."""
    return HOME if (HOME / "stack.json").exists() else DEMO_HOME


def stack_of(home: Path, dags: Path | None = None) -> Stack:
    """The stack that lives there, up or not, and the folder of DAG files that it has when it starts."""
    from rejeu.local.stack.stack import Stack

    return Stack(dags or dags_folder(), home)


def target() -> Target:
    """Where the environment says, else the local stack."""
    if not {"REJEU_PROJECT", "GOOGLE_CLOUD_PROJECT"} & os.environ.keys():
        os.environ.update(stack_of(running()).variables())
    return Target.from_env()
