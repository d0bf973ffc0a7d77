"""One module a DAG: the operators of `batch`, `live`, `watchdog` and `stop`; `base` has what they share."""
