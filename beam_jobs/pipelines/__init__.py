"""Rejeu's own pipelines: a package each, under the name that a spec calls it by, with its record PIPELINE."""
