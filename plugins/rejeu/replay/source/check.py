"""What can be said of a spec's source without asking anybody: whether its name can be imported, and its options."""

from __future__ import annotations

from rejeu.spec.model import Source


def check_source(source: Source) -> None:
    """Raises RequestError for a simulator or a reader that cannot be imported, or whose options are wrong."""
    # Both bring Arrow, which other specs need not wait for.
    if source.generator is not None:
        from rejeu.replay.source.generated import open_generator

        open_generator(source.generator)
    if source.reader is not None:
        from rejeu.replay.source.reader import open_reader

        open_reader(source.reader, source.options)
