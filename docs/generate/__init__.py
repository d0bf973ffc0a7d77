"""Writes the pages of `docs/reference/` from the code; a test fails where one is out of date."""
