"""The pipelines: one module each, under the name that a spec calls it by."""
