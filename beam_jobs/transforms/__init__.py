"""The steps that pipelines are made of; none knows where its elements come from."""
