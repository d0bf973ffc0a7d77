"""The pipeline `passthrough`: the row as it is.

This is what it writes; how it does so is in `transform`, which needs Beam.
"""

from __future__ import annotations

from rejeu.spec.pipelines import Pipeline

PIPELINE = Pipeline(module=f"{__name__}.transform")
