"""Errors, argument checks, atomic writes and tables: what every other package may use."""
