"""The monthly report: recorded facts in, a page that a RSSI (CISO) can sign out."""

from __future__ import annotations

from backupguard.reports.issue import FORMATS, Issued, directory_of, issue, issue_report
from backupguard.reports.model import MonthlyReport
from backupguard.reports.monthly import monthly
from backupguard.reports.render import render_html, render_json

__all__ = [
    "FORMATS",
    "Issued",
    "MonthlyReport",
    "directory_of",
    "issue",
    "issue_report",
    "monthly",
    "render_html",
    "render_json",
]
