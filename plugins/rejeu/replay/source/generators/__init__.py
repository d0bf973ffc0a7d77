"""Rejeu's own simulators: a module each, under the name that a spec calls it by, with its record GENERATOR."""
