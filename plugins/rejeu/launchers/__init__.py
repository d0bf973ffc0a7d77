"""Launchers: each starts, finds and stops jobs in one place, behind the one port `rejeu.ports.Launcher`."""
