"""When and how rows are published: due times, requests in flight, ordering keys; which rows is decided elsewhere."""
