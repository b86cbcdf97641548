"""Puts HTML on paper (PDF/A-3): a process of its own that loads WeasyPrint, and nothing of ours."""
