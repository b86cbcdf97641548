"""Which alert of `config/prometheus/backupguard.rules.yml` a finding raises, and so its runbook."""

from __future__ import annotations

from backupguard.assess.picture import Assessment
from backupguard.model import Finding, Status, Subject

#: The alert of each control that has one; RST-01 and PRV-01 have several.
ALERTS = {
    "INV-01": "BackupGuardCoverageIncomplete",
    "INV-02": "BackupGuardCoreServiceStale",
    "JOB-01": "BackupGuardJobFailed",
    "321-01": "BackupGuardRule321Broken",
    "OFF-01": "BackupGuardOfflineCopyStale",
    "IMM-01": "BackupGuardImmutabilityMissing",
    "IMM-02": "BackupGuardImmutabilityProbeFailed",
    "ISO-01": "BackupGuardRepositoryReachable",
    "ACC-01": "BackupGuardPrivilegedAccessWeak",
    "CHF-01": "BackupGuardCopyUnencrypted",
    "CFG-01": "BackupGuardPolicyWeakened",
    "PDM-01": "BackupGuardRpoBreached",
    "RET-01": "BackupGuardRetentionShort",
    "ANO-01": "BackupGuardBackupAnomaly",
    "INT-01": "BackupGuardIntegrityNotProven",
    "RST-02": "BackupGuardRestoredDataInvalid",
    "RST-03": "BackupGuardRtoExceeded",
    "RST-04": "BackupGuardDirectoryRebuildOverdue",
}
UNAVAILABLE = "BackupGuardRepositoryUnavailable"
_NOT_QUIET = frozenset({Status.NON_COMPLIANT, Status.WARNING, Status.NOT_MEASURABLE})


def alert_of(finding: Finding, assessment: Assessment) -> str | None:
    """Return the alert that tells of a finding; None for a control without one."""
    if finding.control == "RST-01":
        return _restore_test(finding.subject.partition("/")[2], assessment)
    if finding.control == "PRV-01":
        if assessment.evidence.valid is False:
            return "BackupGuardEvidenceBroken"
        if assessment.self_test_noticed is False:
            return "BackupGuardSelfTestMissed"
        return "BackupGuardEvidenceGap"
    return ALERTS.get(finding.control)


def alerts_of(assessment: Assessment) -> dict[tuple[str, Subject], str]:
    """Return the alerts of all findings that somebody may have to do something about."""
    return {
        (finding.control, finding.subject): alert
        for finding in assessment.findings
        if finding.status in _NOT_QUIET and (alert := alert_of(finding, assessment)) is not None
    }


def is_failing(application: str, assessment: Assessment) -> bool:
    """Tell whether a restore test of an application failed and none has passed there since."""
    return any(
        (test.last_failure_at or 0) > (test.last_success_at or 0)
        for test in assessment.tests
        if test.application == application
    )


def _restore_test(application: str, assessment: Assessment) -> str:
    if is_failing(application, assessment):
        return "BackupGuardRestoreTestFailed"
    proved = any(
        test.last_success_at for test in assessment.tests if test.application == application
    )
    return "BackupGuardRestoreTestOverdue" if proved else "BackupGuardRestoreNeverProved"
