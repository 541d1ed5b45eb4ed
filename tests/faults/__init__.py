"""Faults of real processes: who learns of them, what is left, and what goes on."""
