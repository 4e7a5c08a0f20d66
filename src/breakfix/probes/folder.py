"""A folder that a candidate made, read from the archive in which the engine hands it out.  Nothing of it is trusted."""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_FILES: Final = 500
MOST_BYTES: Final = 2 << 20
"""Of all files together; a module is text."""
MOST_STATE: Final = 4 << 20
LEFT_OUT: Final = frozenset({".terraform", ".git", "terraform.d"})
"""Folders that tofu or git made, and where tofu would look for providers of the folder's own."""
SETTINGS: Final = frozenset({".terraformrc", "terraform.rc", ".tofurc", "tofu.rc", ".terraform.lock.hcl"})
"""What would tell tofu where its providers come from, or which it must be: ours are the image's."""
STATE: Final = ".tfstate"
BACKUP: Final = re.compile(r"\.tfstate(\.\d+)?\.backup$")
"""What each command that works on a state leaves of the one before."""


class Refused(AssertionError):
    """The folder holds what no module has.  The candidate put it there, so it is a verdict."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What is in it, by paths below it."""

    files: dict[str, bytes]
    states: dict[str, bytes] = field(default_factory=dict)
    """Local states, which are not code: a sandbox gets one only where a grader gives it."""

    @property
    def state(self) -> bytes | None:
        """The state of the default workspace, where it lies in the folder."""
        return self.states.get("terraform.tfstate")


def read(archive: bytes) -> Folder:
    """Read an archive of one folder.  Raises Refused for links, special files, overrides, and too much of anything."""
    files: dict[str, bytes] = {}
    states: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for path, member in _members(opened):
            content = opened.extractfile(member)
            assert content is not None  # noqa: S101  # a plain file has content
            (states if path.endswith(STATE) else files)[path] = content.read()
    return Folder(files, states)


def _members(opened: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yield the files that count, with their paths; what is wrong is said before anything big is read."""
    count = size = 0
    for member in opened:
        path = PurePosixPath(member.name)
        # The first part is the folder's own name.
        inner = PurePosixPath(*path.parts[1:])
        if LEFT_OUT & set(inner.parts) or inner.name in SETTINGS or BACKUP.search(inner.name):
            continue
        _refuse_kind(member, inner)
        if not member.isfile():
            continue
        if str(inner).endswith(STATE):
            _refuse_if(member.size > MOST_STATE, f"{inner} has {member.size >> 20} MiB; a state here is under 4 MiB")
        else:
            count, size = count + 1, size + member.size
        _refuse_if(count > MOST_FILES, f"there are more than {MOST_FILES} files")
        _refuse_if(size > MOST_BYTES, f"the files have more than {MOST_BYTES >> 20} MiB together")
        yield str(inner), member


def _refuse_kind(member: tarfile.TarInfo, path: PurePosixPath) -> None:
    _refuse_if(member.issym() or member.islnk(), f"{path or member.name} is a link: a module is made of files")
    _refuse_if(not (member.isfile() or member.isdir()), f"{path} is a special file: a module is made of files")
    _refuse_if(".." in path.parts or path.is_absolute(), f"{path} leads out of the folder")
    stem = path.name.removesuffix(".json").removesuffix(".tf").removesuffix(".tofu")
    overrides = path.suffix in {".tf", ".tofu", ".json"} and (stem == "override" or stem.endswith("_override"))
    _refuse_if(overrides, f"{path} overrides other files: say it where it belongs")


def _refuse_if(condition: object, why: str) -> None:
    if condition:
        raise Refused(f"the folder is not looked at: {why}")
