"""Probes: one module per question about copies."""
