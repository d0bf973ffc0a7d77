"""What the flex template's launcher runs, by its path: `stream`, told its parameters and Beam's options in one row.

Nothing but the way in is here: what a program run by its path defines is not there on the workers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_jobs.program import main
from beam_jobs.stream import run
from rejeu.jobs.request import StreamJobRequest


def split_flags(argv: Sequence[str]) -> list[str]:
    """Our flags, `--` and Beam's, as `stream` reads them; a parameter has the name of a field, `--dead_letters=…`."""
    ours, beams = list[str](), list[str]()
    for word in argv:
        name, equals, value = word.removeprefix("--").partition("=")
        if name in StreamJobRequest.model_fields:
            ours.append(f"--{name.replace('_', '-')}{equals}{value}")
        else:
            beams.append(word)
    return [*ours, "--", *beams]


if __name__ == "__main__":
    sys.exit(main(lambda argv: run(split_flags(argv))))
