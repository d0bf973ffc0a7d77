"""What Rejeu asks of BigQuery: tables, views, load jobs, incidents, and all of its SQL."""
