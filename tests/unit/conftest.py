"""How hypothesis runs here: no deadline on a shared machine, and nothing left in the folder."""

from hypothesis import settings

settings.register_profile("rejeu", deadline=None, database=None)
settings.load_profile("rejeu")
