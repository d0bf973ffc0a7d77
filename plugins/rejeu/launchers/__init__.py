"""Launchers: each starts, finds and stops jobs on one platform, behind the port `rejeu.ports.Launcher`."""
