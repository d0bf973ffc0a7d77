"""What a feed is: its YAML file as a typed, frozen spec. Nothing here says where a feed runs."""
