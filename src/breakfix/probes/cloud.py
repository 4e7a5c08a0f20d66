"""The fixture ``cloud`` of graders: a lab's cloud, through its administrator's door, and in anybody's name.

The host ``cloud`` is closed to candidates; its door is asked with our own curl in the trusted shell.  In a user's name
calls are made for real, signed, at the front where everybody comes in, with a key that only the grader has and that IAM
does not list: nothing of the account is changed by looking.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from breakfix.errors import ProbeFailed
from breakfix.probes.facts import differences, leaves

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from breakfix.environments import Shell
    from breakfix.model import JsonValue

DOOR: Final = "http://127.0.0.1:8001/breakfix"
ACCOUNT: Final = "123456789012"
REFUSALS: Final = frozenset({
    "AccessDenied", "AccessDeniedException", "403", "InvalidClientTokenId", "InvalidAccessKeyId",
    "SignatureDoesNotMatch", "AuthFailure", "InvalidToken", "ExpiredToken",
})  # fmt: skip
"""Codes with which the cloud says no to who is asking; any other error is about what was asked for."""
MARK: Final = "BREAKFIX-END-OF-REQUEST"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody in whose name calls are made: a user, a key, or a session of a role."""

    called: str
    by: Mapping[str, str]

    def __str__(self) -> str:
        """Return what evidence calls it."""
        return self.called


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call."""

    said: Mapping[str, Any]

    @property
    def error(self) -> str:
        """The code of the error; nothing where there was none."""
        return str(self.said.get("error", ""))

    @property
    def refused(self) -> bool:
        """True where whoever asked may not, as opposed to what they asked for."""
        return self.error in REFUSALS

    @property
    def value(self) -> dict[str, Any]:
        """The answer itself; empty where there was none."""
        return dict(self.said.get("answer", {}))


class Cloud:
    """Calls go by boto3's names: ``cloud.call("iam", "list_users")``."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401
        """Make a call as the administrator; return its answer, empty where what was asked for is not there.

        Raises ProbeFailed where the call itself is wrong.
        """
        answer = self._ask((service, operation, parameters, None))[0]
        if answer.error and not _is_missing(answer.error):
            raise ProbeFailed(f"{service} {operation}: {answer.error}", why=str(answer.said.get("message", "")))
        return answer.value

    def attempt(self, who: Principal, service: str, operation: str, /, **parameters: Any) -> Answer:  # noqa: ANN401
        """Try a call in somebody's name, for real; return what came of it."""
        return self._ask((service, operation, parameters, who))[0]

    def attempts(self, who: Principal, *calls: tuple[str, str, dict[str, Any]]) -> list[Answer]:
        """Try many calls in somebody's name, in order, in one go."""
        return self._ask(*((service, operation, parameters, who) for service, operation, parameters in calls))

    def _ask(self, *calls: tuple[str, str, Mapping[str, Any], Principal | None]) -> list[Answer]:
        wanted = [
            {"service": service, "operation": operation, "parameters": dict(parameters), "by": who and dict(who.by)}
            for service, operation, parameters, who in calls
        ]
        answers = [Answer(one) for one in self._request("call", json.dumps(wanted))]
        if broken := [str(one.said["broken"]) for one in answers if "broken" in one.said]:
            raise ProbeFailed("a call to the cloud is wrong", why="\n".join(broken))
        return answers

    def _request(self, what: str, body: str = "") -> list[dict[str, Any]]:
        data = f"--data-binary @- <<'{MARK}'\n{body}\n{MARK}" if body else ""
        done = self._shell.run(f"curl -sS -f -m 30 {shlex.quote(f'{DOOR}/{what}')} {data}", 35.0)
        if done.exit_status:
            raise ProbeFailed("the lab's cloud does not answer", why=done.error_text, next_step="breakfix reset")
        found: list[dict[str, Any]] = json.loads(done.text)
        return found

    def log(self) -> list[dict[str, str]]:
        """Return who called what at the front, oldest first: at, from, key, principal, action, resource, outcome."""
        return self._request("log")

    # -- principals ----------------------------------------------------------------------------------------------------

    @staticmethod
    def user(name: str) -> Principal:
        """Return a user, whatever keys they have."""
        return Principal(name, {"user": name})

    @staticmethod
    def key(key_id: str, secret: str, token: str = "") -> Principal:
        """Return whoever has this key."""
        return Principal(f"key {key_id}", {"id": key_id, "secret": secret, "token": token})

    def role(self, name: str, by: Principal, external_id: str = "") -> Principal | None:
        """Return a session of a role, assumed for real by somebody; None where they may not."""
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        more = {"ExternalId": external_id} if external_id else {}
        answer = self.attempt(by, "sts", "assume_role", RoleArn=arn, RoleSessionName="breakfix", **more)
        if answer.error:
            return None
        given = answer.value["Credentials"]
        signed = {"id": given["AccessKeyId"], "secret": given["SecretAccessKey"], "token": given["SessionToken"]}
        return Principal(f"{name} assumed by {by}", signed)

    # -- what there is -------------------------------------------------------------------------------------------------

    def inventory(self) -> dict[str, JsonValue]:
        """Return users, groups, roles and policies with every statement, and buckets, as flat facts."""
        details = self.call("iam", "get_account_authorization_details")
        facts: dict[str, JsonValue] = {}
        for kind, name, content in _principals(details):
            facts[f"{kind}/{name}"] = "is there"
            facts |= {f"{kind}/{name}/{path}": value for path, value in leaves(content)}
        for one in self.call("s3", "list_buckets").get("Buckets", ()):
            facts[f"buckets/{one['Name']}"] = "is there"
        return facts

    def differences(self, before: Any, allow: Iterable[str] = (), new: Iterable[str] = ()) -> list[str]:  # noqa: ANN401
        """Say what is gone or changed since ``before``, and new below ``new``; see ``breakfix.probes.facts``."""
        return differences(before, self.inventory(), allow, new)

    def statements(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Return every policy statement that counts for a principal: its own, its groups', attached ones.

        ``kind`` is ``users``, ``groups`` or ``roles``; Action and Resource are lists.
        """
        details = self.call("iam", "get_account_authorization_details")
        found = {(what, called): content for what, called, content in _principals(details)}
        own = found.get((kind, name), {})
        every = [own, *(found.get(("groups", group), {}) for group in own.get("groups", ()))]
        documents = [one for part in every for one in part.get("inline", {}).values()]
        attached = [arn for part in every for arn in part.get("attached", ())]
        documents += [found.get(("policies", arn), {}).get("document", {}) for arn in attached]
        return [_listed(one) for document in documents for one in _statements(document)]


def _is_missing(code: str) -> bool:
    return (
        code.startswith("NoSuch") or code.endswith(("NotFound", "NotFoundFault", "NotFoundException")) or code == "404"
    )


def _statements(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = document.get("Statement", [])
    return [found] if isinstance(found, dict) else list(found)


def _listed(statement: Mapping[str, Any]) -> dict[str, Any]:
    elements = ("Action", "NotAction", "Resource", "NotResource")
    return {key: [value] if key in elements and isinstance(value, str) else value for key, value in statement.items()}


def _principals(details: Mapping[str, Any]) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Yield kind, name and content of everything that IAM knows."""
    for one in details.get("UserDetailList", ()):
        own = {**_policies(one, "UserPolicyList"), "groups": sorted(one.get("GroupList", ()))}
        yield "users", one["UserName"], own
    for one in details.get("GroupDetailList", ()):
        yield "groups", one["GroupName"], _policies(one, "GroupPolicyList")
    for one in details.get("RoleDetailList", ()):
        trust = one.get("AssumeRolePolicyDocument", {})
        yield "roles", one["RoleName"], {**_policies(one, "RolePolicyList"), "trust": trust}
    for one in details.get("Policies", ()):
        current = [version for version in one.get("PolicyVersionList", ()) if version.get("IsDefaultVersion")]
        yield "policies", one["Arn"], {"document": current[0]["Document"] if current else {}}


def _policies(one: Mapping[str, Any], inline: str) -> dict[str, Any]:
    return {
        "inline": {policy["PolicyName"]: policy["PolicyDocument"] for policy in one.get(inline, ())},
        "attached": sorted(policy["PolicyArn"] for policy in one.get("AttachedManagedPolicies", ())),
    }
