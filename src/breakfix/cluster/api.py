"""A cluster's API with our own credentials: raw JSON in and out.

The kubernetes client carries the requests and nothing else of it is used: its typed objects refuse what a candidate
broke on purpose, and take a hundred times as long.
"""

from __future__ import annotations

import json
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from breakfix.cluster.objects import field
from breakfix.errors import HostUnreachable, ProbeFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Object = dict[str, Any]
    """One object of the API, as it stands in JSON."""

DEADLINE: Final = 10.0
"""Seconds for one request.  A webhook that hangs is given up by the API server after at most 30."""
PAGE: Final = 500
MOST_OBJECTS: Final = 20_000
"""In one list; whoever makes more than this is not graded by waiting for them."""
_importing: Final = Lock()


class Refused(ProbeFailed):
    """The API server answered, and not with what was asked for.  ``code`` is HTTP's."""

    def __init__(self, method: str, path: str, code: int, said: str) -> None:
        super().__init__(f"the cluster answered {code} to {method} {path}", why=said)
        self.code = code
        self.said = said
        self.missing = code == 404  # noqa: PLR2004


class Api:
    """One cluster, as its administrator."""

    def __init__(self, kubeconfig: Mapping[str, Any], name: str = "cluster") -> None:
        # Its modules import each other in a circle: two threads that begin at once would each see half of it.
        with _importing:
            from kubernetes.client import ApiClient, Configuration  # noqa: PLC0415  # heavy
            from kubernetes.config import load_kube_config_from_dict  # noqa: PLC0415

        configuration = Configuration()
        load_kube_config_from_dict(dict(kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
        # It would ask three times before it says that nobody is there.
        configuration.retries = False
        self.name = name
        self.server = str(configuration.host)
        self._client = ApiClient(configuration)

    def request(
        self, method: str, path: str, body: object = None, kind: str = "application/json", **query: object
    ) -> Object:
        """Return what the API server answers.

        Raises HostUnreachable where nobody answers in time, Refused where the answer is an error.
        """
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        asked = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json", **({"Content-Type": kind} if body is not None else {})}
        call = self._client.param_serialize(
            method, asked, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            answer = self._client.call_api(*call, _request_timeout=DEADLINE)
            data = bytes(answer.read())  # type: ignore[no-untyped-call]
        except (HTTPError, OSError, ApiException) as error:
            raise HostUnreachable(
                f"the API server of {self.name} does not answer", why=str(error), next_step="breakfix cluster"
            ) from error
        return _read(method, path, int(answer.status), data)

    def get(self, path: str) -> Object | None:
        """Return an object; None where there is none."""
        try:
            return self.request("GET", path)
        except Refused as error:
            if error.missing:
                return None
            raise

    def list(self, path: str, **query: object) -> list[Object]:
        """Return all objects of a list, page by page."""
        found: list[Object] = []
        for page in self._pages(path, query):
            found += page.get("items") or []
            if len(found) > MOST_OBJECTS:
                raise ProbeFailed(f"{path} has more than {MOST_OBJECTS} objects", next_step="breakfix reset")
        return found

    def _pages(self, path: str, query: dict[str, object]) -> Iterator[Object]:
        after = ""
        while True:
            more = {"continue": after} if after else {}
            page = self.request("GET", path, None, "", limit=PAGE, **query, **more)
            yield page
            if not (after := field(page, "metadata.continue", "")):
                return

    def create(self, path: str, manifest: Object) -> Object:
        """Create an object in the list at ``path``."""
        return self.request("POST", path, manifest)

    def merge(self, path: str, patch: Object) -> Object:
        """Change some fields of the object at ``path``."""
        return self.request("PATCH", path, patch, kind="application/merge-patch+json")

    def delete(self, path: str, *, at_once: bool = False) -> None:
        """Delete what is at ``path``: an object, or a list of them.  What is not there is fine."""
        body = {"gracePeriodSeconds": 0} if at_once else {}
        try:
            self.request("DELETE", path, {"propagationPolicy": "Background", **body})
        except Refused as error:
            if not error.missing:
                raise


def _read(method: str, path: str, status: int, data: bytes) -> Object:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = {"message": data[:300].decode(errors="replace")}
    if not 200 <= status < 300:  # noqa: PLR2004
        raise Refused(method, path, status, str(answer.get("message", "") if isinstance(answer, dict) else answer))
    if not isinstance(answer, dict):
        raise ProbeFailed(f"the cluster answered {method} {path} with no object")
    return answer
