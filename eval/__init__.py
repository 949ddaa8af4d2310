"""Offline evidence: metrics, curves, intervals, the gate, the report."""
