"""The replay: source, order, encode, pace, publish; run as `python -m rejeu.replay`. Needs no Airflow and no Beam."""
