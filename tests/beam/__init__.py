"""Tests of the Beam jobs."""
