"""The DAGs: one module a kind, each with all that is said and done of it. `registry.py` lists the kinds."""
