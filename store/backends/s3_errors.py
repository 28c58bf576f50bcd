"""What S3 servers and the way to them report, as the store's own errors."""

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from ..errors import (
    AccessDenied,
    CorruptObject,
    NoSuchStore,
    NotFound,
    StorageFull,
    StoreError,
    Unavailable,
    VaultError,
)

_MISSING_KEY = {"NoSuchKey", "NotFound", "404"}
# Passing errors that come with a 4xx status. An upload that is unknown when it is completed has
# been completed by an earlier attempt whose answer was lost, or the server forgot it: either way
# putting the object again is right.
_PASSING_CODES = {
    "ConditionalRequestConflict",
    "NoSuchUpload",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
}
_PASSING_STATUS = {408, 429}
# What a server cannot do today it cannot do tomorrow.
_NOT_IMPLEMENTED = 501
# Some of these come with status 400.
_DENIED_CODES = {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "TokenRefreshRequired"}
_DENIED_STATUS = {401, 403}
_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
)
_BROKEN_CONNECTION = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    HTTPError,
)


def error_code(error: ClientError) -> str:
    """Returns the server's own code; the status where an answer to HEAD carries none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_status(error: ClientError) -> int:
    """Returns the HTTP status, 0 when unknown."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_missing_key(error: ClientError) -> bool:
    """Tells whether the answer is that there is no such object."""
    return error_code(error) in _MISSING_KEY


def from_client_error(error: ClientError, bucket: str, key: str) -> VaultError:
    """Returns the store's error for an error answer about an object or a listing."""
    code, status = error_code(error), error_status(error)
    message = f"s3://{bucket}/{key}: {error}"
    if code == "NoSuchBucket":
        return no_such_bucket(bucket)
    if is_missing_key(error):
        return NotFound(f"no such object: {key}")
    # Before the status: Ceph refuses what is over its quota with 403.
    if "Quota" in code or "StorageFull" in code or status == 507:
        return StorageFull(message)
    if status == _NOT_IMPLEMENTED:
        return StoreError(message)
    if status >= 500 or status in _PASSING_STATUS or code in _PASSING_CODES:
        return Unavailable(message)
    if status in _DENIED_STATUS or code in _DENIED_CODES:
        return AccessDenied(message)
    return StoreError(message)


def from_connection_error(error: BotoCoreError | HTTPError, endpoint: str) -> StoreError:
    """Returns the store's error for one that was met before an answer was complete."""
    if isinstance(error, _NO_CREDENTIALS):
        return AccessDenied(
            f"there are no credentials for {endpoint}: {error}",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile of "
            "~/.aws",
        )
    if isinstance(error, boto.FlexibleChecksumError):
        return CorruptObject(f"{endpoint} sent bytes that fail its own checksum: {error}")
    if isinstance(error, _BROKEN_CONNECTION):
        return Unavailable(f"no complete answer from {endpoint}: {error}")
    return StoreError(f"{endpoint}: {error}")


def no_such_bucket(bucket: str) -> NoSuchStore:
    """Returns the error for a bucket that is not there."""
    return NoSuchStore(f"there is no bucket {bucket!r}: create it, or correct the address")
