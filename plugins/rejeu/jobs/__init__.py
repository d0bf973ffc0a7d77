"""Requests: what a job is asked to do, as typed values that travel as arguments, and how a spec becomes requests."""
