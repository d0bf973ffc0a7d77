"""What looks at a stream's signal, and what is decided when it is gone; without Airflow."""
