"""What a job is asked to do: typed values that travel as arguments, and what builds them from a spec."""
