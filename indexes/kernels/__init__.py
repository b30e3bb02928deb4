"""Compiled loops: encoding, and MaxSim straight from the stored codes, on CPU and on GPU."""
