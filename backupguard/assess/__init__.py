"""Facts in, judgement out: builds views, calls controls, publishes what changed.

assessor = Assessor(store, settings, catalogue_of(settings))
assessment = assessor.assess(now)              # everything; records, writes status.json
assessment = assessor.assess(now, full=False)  # only subjects with new facts
assessment = assessor.judge(now)               # only looks
"""

from backupguard.assess.assessor import Assessor
from backupguard.assess.history import History
from backupguard.assess.picture import (
    ApplicationPicture,
    Assessment,
    EvidenceState,
    JobPicture,
    ProbePicture,
    TestPicture,
    is_open,
)
from backupguard.assess.views import build_views

__all__ = [
    "ApplicationPicture",
    "Assessment",
    "Assessor",
    "EvidenceState",
    "History",
    "JobPicture",
    "ProbePicture",
    "TestPicture",
    "build_views",
    "is_open",
]
