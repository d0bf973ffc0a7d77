"""The steps of pipelines; none knows where its elements come from."""
