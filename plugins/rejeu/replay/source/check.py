"""What can be said of a spec's source without asking anybody: whether its name can be imported, and its options."""

from __future__ import annotations

from rejeu.spec.model import Source


def check_source(source: Source) -> None:
    """Raises RequestError for a simulator that cannot be imported, or whose options are wrong."""
    if source.generator is not None:
        from rejeu.replay.source.generated import open_generator  # brings Arrow, which other specs need not wait for

        open_generator(source.generator)
