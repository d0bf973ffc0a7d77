"""What `make chaos` runs: a whole local stack with a real Airflow, whose parts are killed in seeded rounds."""
