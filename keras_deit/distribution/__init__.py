"""Processes, replicas and strategies: where training runs."""
