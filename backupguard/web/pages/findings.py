"""Findings by control, state and application; exceptions and statements of people beside them."""

from __future__ import annotations

from backupguard.model import Finding, Status
from backupguard.web.pages import rows
from backupguard.web.pages.rendering import View

#: What people said, in the order in which it is shown.
_FAMILIES = ("waivers", "overrides", "attestations")


def page(view: View) -> str:
    """Return the findings that the address chooses, worst first, and what people stated."""
    published, asked = view.published, view.asked
    control, status = asked.choice("control"), asked.choice("status")
    application = asked.choice("application")
    found = _of_application(view, application)
    chosen = sorted(
        (one for one in found if control in ("", one.control) and status in ("", one.status.value)),
        key=rows.rank,
    )
    shown, turned = view.turned(chosen)
    controls = sorted({one.control for one in published.findings})
    return view.render(
        "findings.html",
        findings=rows.rows(view, shown),
        turned=turned,
        control=control,
        status=status,
        application=application,
        controls=[(one, " · ".join(filter(None, (one, view.title(one))))) for one in controls],
        statuses=[(one.value, view.mark(one).label) for one in rows.ORDER],
        applications=sorted(
            ((name, view.application(name)) for name in published.applications),
            key=lambda one: one[1],
        ),
        statements=[
            (
                view.text(f"web.{family}"),
                [view.words.say(one) for one in published.statements.get(family, ())],
                view.text(f"web.no-{family}"),
            )
            for family in _FAMILIES
        ],
    )


def _of_application(view: View, application: str) -> list[Finding]:
    """Return the findings of an application; of all where none is chosen.

    What does not apply is counted elsewhere, and listed where it is asked for.
    """
    if not application:
        found = list(view.published.findings)
    elif application in view.published.applications:
        found = rows.about(view.published, application)
    else:
        found = []
    if view.asked.choice("status") == Status.NOT_APPLICABLE.value:
        return found
    return [one for one in found if one.status is not Status.NOT_APPLICABLE]
