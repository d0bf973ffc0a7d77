"""What `make bench` runs: speed as ratios against Google's own client, measured in the same run; no test of it."""
