"""What a stream needs and the DirectRunner does not have: large pulls, light bundles, an event clock, kept windows."""
