"""What the DirectRunner is missing for a stream: large pulls, light bundles, an event clock, windows that are kept."""
