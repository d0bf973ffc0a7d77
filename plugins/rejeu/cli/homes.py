"""Where the local stacks of this folder live, and the target that commands speak to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import rejeu
from rejeu.target import Target

if TYPE_CHECKING:
    from rejeu.local.stack.stack import Stack

HOME: Final = Path(".rejeu")
DEMO_HOME: Final = HOME / "demo"


def root() -> Path:
    """The checkout: where dags/, plugins/ and beam_jobs/ lie."""
    return Path(rejeu.__file__).parents[2]


def running() -> Path:
    """The home of the stack that is up: `up`'s, else a kept demo's."""
    return HOME if (HOME / "stack.json").exists() else DEMO_HOME


def stack_of(home: Path) -> Stack:
    """The stack that lives there, up or not."""
    from rejeu.local.stack.stack import Stack

    return Stack(root(), home)


def target() -> Target:
    """Where the environment says, else the local stack."""
    if not {"REJEU_PROJECT", "GOOGLE_CLOUD_PROJECT"} & os.environ.keys():
        os.environ.update(stack_of(running()).variables())
    return Target.from_env()
