"""Streams that the state store knows and no valid spec declares: found, told of, and removed on request."""
