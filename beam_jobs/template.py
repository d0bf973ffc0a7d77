"""What the flex template's launcher runs, by its path: `stream`, with parameters and Beam's options in one list.

Only the entry point is here: workers do not have what a program that is run by its path defines.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_jobs.program import main
from beam_jobs.stream import run
from rejeu.jobs.request import StreamJobRequest


def split_flags(argv: Sequence[str]) -> list[str]:
    """Our flags, `--` and Beam's, as `stream` reads them; parameters are called as fields are, `--dead_letters=…`."""
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
