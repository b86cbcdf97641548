"""Restore tests: one module per engine, and what they share."""
