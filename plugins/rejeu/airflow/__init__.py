"""The Airflow side: DAGs, operators and triggers. Beam and Google's clients are imported only where a task runs."""
