"""The tests under each version of Airflow that is supported: `make matrix`."""
