"""What an attacker may ask of an S3 server: canaries, a bucket of its own, and reading.

Operations and their answers: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backupguard.contracts import Secret
from backupguard.repositories.s3_attack_places import is_canary
from backupguard.repositories.s3_client import connected, in_our_words
from backupguard.repositories.s3_places import S3Place

#: What may be asked of anything in the bucket.
_READING = frozenset(
    {
        "GetBucketAcl", "GetBucketPolicy", "GetBucketVersioning", "GetObject", "GetObjectRetention",
        "GetObjectLockConfiguration", "HeadObject", "ListObjectVersions", "ListObjectsV2",
    }
)  # fmt: skip
#: What may be asked of the key of a canary.
_ON_CANARIES = frozenset(
    {"DeleteObject", "DeleteObjects", "PutObject", "PutObjectLegalHold", "PutObjectRetention"}
)
#: What may be asked of the probe's own bucket.
_ON_OWN_BUCKET = frozenset({"PutBucketVersioning", "PutObjectLockConfiguration"})
#: Answers that mean that the credentials, or the clock, are at fault and not the protection.
_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
        "TokenRefreshRequired", "RequestTimeTooSkewed", "AccountProblem", "NotSignedUp",
        "AuthorizationHeaderMalformed", "InvalidSecurity",
    }
)  # fmt: skip
#: How servers refuse what a lock or a policy forbids.
REFUSALS = frozenset(
    {"AccessDenied", "AllAccessDisabled", "InvalidBucketState", "MethodNotAllowed"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered: `code` is its word for an error, None where it did as asked."""

    code: str | None
    status: int
    request_id: str | None
    date: str | None
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Tell whether the server says that it did as asked."""
        return self.code is None

    @property
    def refused(self) -> bool:
        """Tell whether the server itself refused; a page of something in between does not count."""
        return self.code in REFUSALS


class AttackingClient:
    """The only way an attacker speaks to a server: everything but what is listed above is refused.

    A call that would touch anything else than a canary raises AssertionError before it is sent.
    """

    def __init__(
        self, identifier: str, place: S3Place, secret: Secret, own_bucket: str | None = None
    ) -> None:
        self._identifier = identifier
        self._place = place
        self._own_bucket = own_bucket
        self._client = connected(place, secret)
        self._client.meta.events.register("provide-client-params.s3.*", self._check)

    def ask(self, operation: str, **parameters: Any) -> Answer:
        """Ask for one operation ("DeleteObject") and return the answer, whatever it is.

        Raises AccessRefused (authentication) where the credentials are at fault, Unreachable where
        nobody or nothing of S3 answers.
        """
        from botocore import xform_name
        from botocore.exceptions import ClientError

        call = getattr(self._client, xform_name(operation))
        with in_our_words(self._identifier):
            try:
                body = call(**parameters)
            except ClientError as error:
                if _is_trouble(error.response):
                    raise
                body = error.response
        return _answer(body)

    def content(self, **parameters: Any) -> tuple[Answer, bytes]:
        """Return the answer to GetObject with the first bytes of the object."""
        answer = self.ask("GetObject", **parameters)
        if not answer.done:
            return answer, b""
        with in_our_words(self._identifier):
            return answer, answer.body["Body"].read(4096)

    def _check(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        name = model.name
        bucket = params.get("Bucket")
        if name in _ON_OWN_BUCKET:
            fine = self._own_bucket is not None and bucket == self._own_bucket
            fine = fine and bucket != self._place.bucket
        elif name in _ON_CANARIES:
            keys = [one["Key"] for one in params.get("Delete", {}).get("Objects", ())]
            keys += [params["Key"]] if "Key" in params else []
            canaries = [is_canary(key, self._place.prefix) for key in keys]
            fine = bucket == self._place.bucket and bool(canaries) and all(canaries)
        else:
            fine = name in _READING
        if not fine:
            raise AssertionError(f"{name} is not among the operations of an attacker")


def _is_trouble(response: Mapping[str, Any]) -> bool:
    """Tell whether an answer says nothing of the protection: of credentials, or of a server in need."""
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    unfinished = status >= 500 and code != "NotImplemented" and status != 501
    return code in _CREDENTIALS or code == "NoSuchBucket" or unfinished or status == 429


def _answer(response: Mapping[str, Any]) -> Answer:
    told = response.get("ResponseMetadata", {})
    headers = told.get("HTTPHeaders", {})
    error = response.get("Error")
    return Answer(
        code=str(error.get("Code") or told.get("HTTPStatusCode")) if error else None,
        status=int(told.get("HTTPStatusCode", 0)),
        request_id=told.get("RequestId") or headers.get("x-amz-request-id"),
        date=headers.get("date"),
        body=response,
    )


#: A mode ("COMPLIANCE") and until when; None: it has none.
Retention = tuple[str, datetime] | None
#: Nobody may say.
UNKNOWN = "unknown"


def retention_seen(client: AttackingClient, **asked: Any) -> Retention | str:
    """Return the retention of a version as one identity is told it; UNKNOWN where it may not ask."""
    answer = client.ask("GetObjectRetention", **asked)
    if answer.done:
        told = answer.body.get("Retention") or {}
        if "Mode" in told and "RetainUntilDate" in told:
            return str(told["Mode"]), told["RetainUntilDate"]
        return None
    head = client.ask("HeadObject", **asked)
    if head.done and head.body.get("ObjectLockMode"):
        return str(head.body["ObjectLockMode"]), head.body["ObjectLockRetainUntilDate"]
    # Not told in the headers is not the same as none: who may not ask is not told either.
    return UNKNOWN if answer.refused or not head.done else None
