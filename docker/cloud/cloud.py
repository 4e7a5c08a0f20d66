"""The cloud of a lab: moto's AWS API, with IAM enforced for everybody, and a door for its administrator.

moto can enforce IAM, but it also has a back door (/moto-api) that switches that off, counts free calls at the start,
and knows services that never ask who is calling.  Here the services are listed and nothing else is served, every call
to the front is checked, and whoever sets a lab up or grades it comes in by a port that only this machine has.

    front           0.0.0.0:80        everybody: signed, checked, written down
    administrator   127.0.0.1:8001    the same API, unchecked
                    POST /breakfix/call     make calls at the front in somebody's name
                    POST /breakfix/key      give a user a key that is known beforehand
                    GET  /breakfix/log      who called what, and what came of it
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import threading
import xml.etree.ElementTree as ET
from collections import deque
from datetime import UTC, datetime
from functools import cache

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import AccessDeniedError, JsonRESTError, ServiceException
from moto.iam import access_control
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.exceptions import S3AccessDeniedError
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

SERVED = ("s3", "iam", "sts", "sqs", "rds", "secretsmanager", "dynamodb")
"""Each was seen to refuse who has no right (tests/integration/test_cloud.py)."""
FRONT, ADMINISTRATOR = ("0.0.0.0", 80), ("127.0.0.1", 8001)  # noqa: S104  # the session's own network
REGION = "us-east-1"
MOST_LINES = 20_000

# What AWS calls the right that a call needs, where it is not called as the call is.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html
RIGHTS = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:CopyObject": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
}
OWN_RESOURCE = {
    "iam": (("UserName", "user"), ("RoleName", "role"), ("GroupName", "group")),
}
"""Which field of a call names what it is about; moto knows it for roles, queues and buckets alone."""

caller = threading.local()
log: deque[dict[str, str]] = deque(maxlen=MOST_LINES)
lent: dict[str, tuple[str, str]] = {}
"""Keys that were lent to the grader: id to user and secret.  IAM does not list them."""


# -- who may ------------------------------------------------------------------------------------------------------


class LentKey(access_control.IAMUserAccessKey):
    """A key of a user that only the grader has: nothing of the account is changed to act in somebody's name."""

    def __init__(self, access_key_id: str) -> None:
        self.account_id, self.partition = DEFAULT_ACCOUNT_ID, "aws"
        self._access_key_id = access_key_id
        self._owner_user_name, self._secret_access_key = lent[access_key_id]


def key_of(account_id: str, partition: str, access_key_id: str, headers: dict[str, str]):
    """Return the key that a call is signed with, and refuse one that is switched off, which moto would take."""
    if access_key_id in lent:
        return LentKey(access_key_id)
    for user in iam_backends[account_id][partition].users.values():
        if any(one.access_key_id == access_key_id and one.status != "Active" for one in user.access_keys):
            raise access_control.CreateAccessKeyFailure(reason="InvalidId")
    return moto_key(account_id, partition, access_key_id, headers)


def authorize(self, request_class: type, resource: str = "*") -> None:  # a method of moto's
    """Check every call that comes in at the front, from the first on."""
    if getattr(caller, "is_administrator", False):
        return
    if "Authorization" not in self.headers:
        raise (
            S3AccessDeniedError if request_class is access_control.S3IAMRequest else AccessDeniedError("anonymous", "")
        )
    line = {"key": _signed_with(self.headers["Authorization"]), "action": "", "resource": resource, "principal": ""}
    try:
        made = request_class(
            account_id=self.current_account, method=self.method, path=_path(self), data=self.data, body=self.raw_body,
            headers=self.headers, action=self._get_action(),
        )  # fmt: skip
    except (HTTPException, ServiceException):
        # A key that nobody has, or that is switched off.
        note({**line, "action": str(self._get_action())}, "refused")
        raise
    made._action = RIGHTS.get(made._action, made._action)
    resource = _resource(self, made._service, resource)
    refuse_conditions(self)
    line |= {"action": made._action, "resource": resource, "principal": made._access_key.arn}
    try:
        made.check_signature()
        for one in _each(made, resource):
            made.check_action_permitted(one)
    except (HTTPException, ServiceException) as error:
        note(line, "refused")
        raise _as_asked(self, error) from None
    note(line, "allowed")


def _each(made, resource: str) -> list[str]:  # a request of moto's
    """Return what a call is about: each object that is deleted in bulk, where moto asks for the bucket alone."""
    if made._action != "s3:DeleteObject" or "/" in resource:
        return [resource]
    keys = ET.fromstring(made._body).iterfind("{*}Object/{*}Key")
    return [f"{resource}/{key.text}" for key in keys]


def _as_asked(response, error: Exception) -> Exception:
    """Return a refusal in the words of the protocol that was spoken: moto refuses in XML whoever asks."""
    if "X-Amz-Target" in response.headers and isinstance(error, AccessDeniedError):
        return JsonRESTError("AccessDeniedException", error.message)
    return error


def _signed_with(authorization: str) -> str:
    return authorization.partition("Credential=")[2].partition("/")[0]


def _path(response) -> str:
    _, _, query = response.uri.partition("?")
    return response.raw_path + (f"?{query}" if query else "")


def _resource(response, service: str, resource: str) -> str:
    if resource != "*":
        return resource
    for field, kind in OWN_RESOURCE.get(service, ()):
        if name := response.querystring.get(field):
            return f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:{kind}/{name[0]}"
    return resource


def note(line: dict[str, str], outcome: str) -> None:
    """Keep who called what."""
    log.append(
        {"at": datetime.now(UTC).isoformat(), "from": getattr(caller, "address", ""), **line, "outcome": outcome}
    )


def is_permitted(statement, action, resource="*", principal=None, values=None):
    """Return what one statement says of a call, as AWS evaluates it.

    moto takes a trust that is meant for somebody else for a refusal, and part of a name for the name.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
    """
    written = statement._statement
    if not _concerns(written, "Action", action, ignore_case=True) or not _concerns(written, "Resource", resource):
        return NEUTRAL
    if principal and not _trusts(written.get("Principal", {}), principal):
        return NEUTRAL
    if not _holds(written.get("Condition", {}), values or {}):
        return NEUTRAL
    return PERMITTED if written["Effect"] == "Allow" else DENIED


def _concerns(written: dict, element: str, value: str, *, ignore_case: bool = False) -> bool:
    negated = f"Not{element}"
    if negated in written:
        return not _any_matches(written[negated], value, ignore_case=ignore_case)
    # A trust policy names no resource: it is the role's own.
    return element not in written or _any_matches(written[element], value, ignore_case=ignore_case)


def _any_matches(patterns: str | list[str], value: str, *, ignore_case: bool) -> bool:
    flags = re.IGNORECASE if ignore_case else 0
    return any(
        re.fullmatch(re.escape(one).replace(r"\*", ".*").replace(r"\?", "."), value, flags) for one in _many(patterns)
    )


def _trusts(trusted: str | dict, principal: str) -> bool:
    named = ["*"] if trusted == "*" else _many(trusted.get("AWS", []))
    # The account itself, in either way to write it, leaves it to the policies of its users.
    whole = {"*", DEFAULT_ACCOUNT_ID, f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:root"}
    return bool(whole & set(named)) or principal in named or _role_of(principal) in named


def _holds(condition: dict, values: dict[str, str]) -> bool:
    """Return whether a condition holds; of what nobody said, none does, where moto takes it for said rightly."""
    return all(
        operator == "StringEquals" and values.get(key) in _many(expected)
        for operator, keys in condition.items()
        for key, expected in keys.items()
    )


def _role_of(principal: str) -> str:
    """Return the role that a session of it was assumed from."""
    found = re.fullmatch(r"arn:aws:sts::(\d+):assumed-role/([^/]+)/.*", principal)
    return f"arn:aws:iam::{found[1]}:role/{found[2]}" if found else ""


def _many(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


class RefusedCondition(AccessDeniedError):
    """A policy says what this cloud would not look at."""

    code = 400

    def __init__(self) -> None:
        said = "This cloud knows no condition but StringEquals sts:ExternalId."
        super(AccessDeniedError, self).__init__("MalformedPolicyDocument", said)


def refuse_conditions(response) -> None:
    """Refuse a policy with conditions that nobody here would look at, before somebody relies on them."""
    for field in ("PolicyDocument", "AssumeRolePolicyDocument"):
        for document in response.querystring.get(field, ()):
            if any(
                set(one) - {"StringEquals"} or set(one["StringEquals"]) - {"sts:ExternalId"}
                for one in _conditions(document)
            ):
                raise RefusedCondition


def _conditions(document: str) -> list[dict]:
    try:
        statements = json.loads(document)["Statement"]
    except (ValueError, KeyError, TypeError):
        return []  # moto says what is wrong with it
    statements = [statements] if isinstance(statements, dict) else statements
    return [one["Condition"] for one in statements if one.get("Condition")]


NEUTRAL, PERMITTED, DENIED = (
    getattr(access_control.PermissionResult, one) for one in ("NEUTRAL", "PERMITTED", "DENIED")
)
access_control.IAMPolicyStatement.is_action_permitted = is_permitted
moto_key = access_control.create_access_key
access_control.create_access_key = key_of
ActionAuthenticatorMixin._authenticate_and_authorize_action = authorize


# -- the two doors ------------------------------------------------------------------------------------------------


class NotServed(Exception):
    """A service that this cloud does not have."""


class Services(DomainDispatcherApplication):
    """moto's applications, of the services that are served."""

    def get_backend_for_host(self, host: str | None):
        """Return the service that a host stands for.  Raises NotServed for one that is not ours."""
        found = super().get_backend_for_host(host)
        if found is not None and found not in SERVED:
            raise NotServed(found)
        return found


class Door:
    """What listens at one address."""

    def __init__(self, services: Services, *, is_administrator: bool) -> None:
        self.services, self.is_administrator = services, is_administrator

    def __call__(self, environ, start_response):
        """Answer one request, as WSGI has it."""
        caller.is_administrator = self.is_administrator
        caller.address = environ.get("REMOTE_ADDR", "")
        try:
            if self.is_administrator and environ["PATH_INFO"].startswith("/breakfix/"):
                return administrate(Request(environ))(environ, start_response)
            return self.services(environ, start_response)
        except NotServed as service:
            said = f"This cloud has no {service}; it has {', '.join(SERVED)}.\n"
            return Response(said, status=501)(environ, start_response)


def administrate(request: Request) -> Response:
    """Answer what moto does not know."""
    if request.path == "/breakfix/log":
        return _json(list(log))
    if request.path == "/breakfix/key":
        return _json(give_key(**request.get_json(force=True)))
    if request.path == "/breakfix/call":
        return _json([call(**one) for one in request.get_json(force=True)])
    return Response("there is no such thing here\n", status=404)


def _json(content: object) -> Response:
    return Response(json.dumps(content, default=str), mimetype="application/json")


def call(service: str, operation: str, parameters: dict, by: dict | None = None) -> dict:
    """Make one call, as the administrator or at the front ``by`` somebody; return its answer or its error's code.

    ``by`` is ``{"user": NAME}``, or a key: ``{"id": …, "secret": …, "token": …}``.
    """
    try:
        answer = getattr(client(service, *_signed_by(by)), operation)(**parameters)
    except ClientError as error:
        return {"error": error.response["Error"]["Code"], "message": error.response["Error"].get("Message", "")}
    except (BotoCoreError, AttributeError, KeyError) as error:
        return {"broken": f"{type(error).__name__}: {error}"}
    answer.pop("ResponseMetadata", None)
    if "Body" in answer:
        answer["Body"] = answer["Body"].read().decode(errors="replace")
    return {"answer": answer}


def give_key(user: str, key: str, secret: str) -> dict:
    """Give a user a key that a lab's templates know too: its id and secret come from the seed."""
    account = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    made = account.create_access_key(user_name=user)
    account.access_keys[key] = account.access_keys.pop(made.access_key_id)
    made.access_key_id, made.secret_access_key = key, secret
    return {"user": user, "key": key}


def _signed_by(by: dict | None) -> tuple[str, str, str, str]:
    if by is None:
        return (f"http://127.0.0.1:{ADMINISTRATOR[1]}", "administrator", "none", "")
    front = f"http://127.0.0.1:{FRONT[1]}"
    if "user" not in by:
        return (front, by["id"], by["secret"], by.get("token", ""))
    for key, (user, secret) in lent.items():
        if user == by["user"]:
            return (front, key, secret, "")
    key, secret = f"AKIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30)
    lent[key] = (by["user"], secret)
    return (front, key, secret, "")


@cache
def client(service: str, endpoint: str, key: str, secret: str, token: str):
    """Return boto3's client for a service; the service models are read once."""
    once = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return boto3.client(
        service, endpoint_url=endpoint, region_name=REGION, config=once, aws_access_key_id=key,
        aws_secret_access_key=secret, aws_session_token=token or None,
    )  # fmt: skip


def serve() -> None:
    """Serve both doors until the process is ended."""
    services = Services(create_backend_app)
    for (address, port), is_administrator in ((ADMINISTRATOR, True), (FRONT, False)):
        door = Door(services, is_administrator=is_administrator)
        server = make_server(address, port, door, threaded=True, request_handler=MotoRequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    sys.exit(serve())
