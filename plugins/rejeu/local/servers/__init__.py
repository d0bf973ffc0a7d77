"""The servers that stand in for the cloud on one machine: each is a program, or finds one."""
