"""The local stack: its settings, its parts, and all of it started and ended as one."""
