"""Repositories: where copies are kept, one module per backup tool, with its settings beside it."""
