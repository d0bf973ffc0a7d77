"""Finds Google's own Bigtable emulator on this machine; starting and stopping it is the stack's."""

import shutil
from pathlib import Path

_PROGRAM = "platform/bigtable-emulator/cbtemulator"


def find_bigtable_emulator() -> list[str] | None:
    """The command that starts the emulator of the gcloud SDK, or None where PATH has no SDK with it.

    Add `--host=HOST` and `--port=PORT`. What it holds ends with it.
    """
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return None
    program = Path(gcloud).resolve().parent.parent / _PROGRAM
    return [str(program)] if program.exists() else None
