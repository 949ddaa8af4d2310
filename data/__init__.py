"""Offline: router logs to labelled examples with splits."""
