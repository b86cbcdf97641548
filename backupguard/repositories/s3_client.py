"""Speaks to an S3 server through boto3: reading operations only, and errors put into our words."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backupguard.contracts import Secret
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    Changing,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.repositories.s3_places import S3Place

#: What may be asked of a bucket; everything else is refused before it is sent.
READING = frozenset(
    {
        "GetBucketEncryption", "GetBucketLifecycleConfiguration", "GetBucketPolicy",
        "GetBucketVersioning", "GetObject", "GetObjectLockConfiguration", "GetObjectRetention",
        "HeadObject", "ListObjectVersions", "ListObjectsV2",
    }
)  # fmt: skip
_ATTEMPTS = 3

#: Error code of S3 → ours; https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_CODES: dict[str, tuple[type[BackupGuardError], str]] = {
    "NoSuchBucket": (Unreachable, "not_found"),
    "NoSuchKey": (Changing, "repository_changed"),
    "NoSuchVersion": (Changing, "repository_changed"),
    "404": (Changing, "repository_changed"),
    "InvalidObjectState": (MissingMeans, "not_fetchable"),  # in an archive class, not restored
    "AccessDenied": (AccessRefused, "permission"),
    "AllAccessDisabled": (AccessRefused, "permission"),
    "403": (AccessRefused, "permission"),
    "InvalidAccessKeyId": (AccessRefused, "authentication"),
    "SignatureDoesNotMatch": (AccessRefused, "authentication"),
    "ExpiredToken": (AccessRefused, "authentication"),
    "RequestTimeTooSkewed": (MissingMeans, "clock_behind"),
    "SlowDown": (Unreachable, "http_5xx"),
    "429": (Unreachable, "http_5xx"),
    "TooManyRequests": (Unreachable, "http_5xx"),
}


def keys_of(secret: Secret) -> tuple[str, str, str | None]:
    """Return access key, secret key and session token of a shared credentials file.

    Raises AccessRefused (authentication) when it is none; nothing of it stands in the error.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(secret.reveal().decode("utf-8"))
        section = parser["default"]
        return (
            section["aws_access_key_id"],
            section["aws_secret_access_key"],
            section.get("aws_session_token"),
        )
    except (configparser.Error, KeyError, UnicodeDecodeError):
        raise AccessRefused("authentication", name=secret.name) from None


def client(place: S3Place, secret: Secret) -> Any:
    """Return a boto3 client that can only read. Raises AccessRefused (authentication)."""
    made = connected(place, secret)
    made.meta.events.register("before-call.s3", _only_reading)
    return made


def connected(place: S3Place, secret: Secret) -> Any:
    """Return a boto3 client that nothing restricts yet: whoever asks for it does so at once.

    Raises AccessRefused (authentication).
    """
    from boto3.session import Session
    from botocore.config import Config

    access, private, token = keys_of(secret)
    timeout = place.timeout_s
    return Session(
        aws_access_key_id=access,
        aws_secret_access_key=private,
        aws_session_token=token,
        region_name=place.region,
    ).client(
        "s3",
        endpoint_url=place.endpoint,
        verify=str(place.ca_certificate) if place.ca_certificate else True,
        config=Config(
            connect_timeout=min(timeout, 10),
            read_timeout=timeout,
            retries={"max_attempts": _ATTEMPTS, "mode": "standard"},
            s3={"addressing_style": "path" if place.path_style else "auto"},
            user_agent_extra="backupguard",
        ),
    )


def _only_reading(model: Any, **_: Any) -> None:
    if model.name not in READING:
        raise AssertionError(f"{model.name} is not among the operations that only read")


@contextmanager
def in_our_words(identifier: str) -> Iterator[None]:
    """Turn what boto3 raises into an error of ours; nothing the server said stands in it."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    try:
        yield
    except exceptions.ClientError as error:
        raise _answered(error, identifier) from None
    except exceptions.SSLError:
        raise Unreachable("tls", repository=identifier) from None
    except (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError):
        raise Unreachable("timeout", repository=identifier) from None
    except exceptions.EndpointConnectionError as error:
        reason = type(error.kwargs.get("error")).__name__
        code = "dns" if reason == "NameResolutionError" else "refused"
        raise Unreachable(code, repository=identifier) from None
    except exceptions.FlexibleChecksumError:
        raise BackupDefect("corrupt", repository=identifier) from None
    except (exceptions.HTTPClientError, exceptions.IncompleteReadError):
        raise Unreachable("refused", repository=identifier) from None
    except ResponseParserError:
        raise Misunderstood("output_unparsable", repository=identifier) from None
    except exceptions.BotoCoreError:
        raise Unreachable("refused", repository=identifier) from None


def _answered(error: Any, identifier: str) -> BackupGuardError:
    answer = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    known = _CODES.get(code) or _CODES.get(str(status))
    if known is not None:
        kind, ours = known
        return kind(ours, repository=identifier)
    if status >= 500:
        return Unreachable("http_5xx", repository=identifier)
    return Misunderstood("output_unparsable", repository=identifier)
