"""How rows are written to messages: JSON, row ids, instants and Pub/Sub's wire format, whole columns at a time."""
