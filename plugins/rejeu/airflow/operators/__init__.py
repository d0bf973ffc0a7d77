"""One module a DAG: `batch`, `live` with stop, `watchdog`, `reconcile`, `patrol`; `base` has what they share."""
