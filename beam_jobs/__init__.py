"""The Beam jobs: one module a pipeline, the transforms that they share, and the two programs that run them."""
