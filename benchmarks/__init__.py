"""What `make bench` runs: speed as ratios to Google's own client, measured in the same run; these are no tests."""
