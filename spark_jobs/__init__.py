"""Jobs for Spark, on Dataproc Serverless or on this machine; those for Beam are in `beam_jobs/`."""
