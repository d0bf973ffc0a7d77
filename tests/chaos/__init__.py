"""What `make chaos-replay` runs: real replays on real brokers, killed, paused and cut off in seeded rounds."""
