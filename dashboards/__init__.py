"""Builds the Grafana dashboards of `config/grafana/`: plain dicts, one module per dashboard."""
