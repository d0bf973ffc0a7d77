"""Jobs for Spark, on Dataproc Serverless or here; what runs on Beam is in `beam_jobs/`."""
