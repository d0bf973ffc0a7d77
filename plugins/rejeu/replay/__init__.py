"""The replay: source, order, encode, pace, publish; run as `python -m rejeu.replay`. Neither Airflow nor Beam here."""
