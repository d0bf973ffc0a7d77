"""What a row looks like on its way: JSON, ids' instants and Pub/Sub's wire format, whole columns at a time."""
