"""Status pages, `/metrics` and health endpoints. Outputs only read."""
