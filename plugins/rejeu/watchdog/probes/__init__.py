"""What tells whether a topic is alive: `heartbeat` knows what is due, `tap` what arrived, `metric` what was counted.

A module that has a PROBE is one; `combined` makes one verdict of several.
"""
