"""The trusted shell: notices tools that were ended from without, and a PID 1 that cannot be believed.

A search for what must not be there finds nothing when it is killed, or when it could not start.  So a tool that ended
by a signal is asked again, and is no answer when it happens twice.

A trusted program that asks PID 1 is worth no more than what answers it.  The candidate is root in the host.  They can
put a socket of their own where PID 1's is, or run other code as PID 1: a replaced systemd after ``daemon-reexec``, a
preloaded library, a debugger.  So before systemctl is asked, the trusted shell makes sure that

- the code that PID 1 executes, read from its memory, is the code that it executed when the session was handed over;
- there is exactly one socket that was bound as /run/systemd/private, it is the file at that path, and PID 1 alone has
  it.  (PID 1 always holds its own, so a second one, also one that PID 1 opened for a socket unit, makes two.)

and afterwards, that neither socket nor folder was moved in between: their change times can't be forged without the
right to set the clock.  What is left to a liar are PID 1's data in memory.
"""

from __future__ import annotations

import re
import shlex
import time
from typing import TYPE_CHECKING, Final, NoReturn

from breakfix.engine.shell import ExecShell
from breakfix.errors import ProbeFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from breakfix.engine.shell import Seat
    from breakfix.model import Completed
    from docker import APIClient

ASKS_PID_1: Final = re.compile(r"\bsystemctl\b")
SOCKET: Final = "/run/systemd/private"
PID_1_ALONE: Final = re.compile(r'users:\(\("systemd",pid=1,fd=\d+\)\)')
DEADLINE: Final = 20.0
ROUNDS: Final = 4
"""How often systemctl is asked while its socket's folder changes, before that is held against the host."""
PULSE: Final = 0.05
LOOKS: Final = 20
"""How often one looks who has PID 1's socket, before a second holder is held against the host."""
# Not SIGPIPE: that is how a pipeline ends whose reader has seen enough.
KILLED: Final = frozenset(range(129, 160)) - {141}
KILLED_INSIDE: Final = re.compile(
    rb"^(Killed|Terminated|Segmentation fault|Aborted|Bus error|Hangup|Quit|Illegal instruction|Alarm clock|"
    rb"User defined signal [12]|CPU time limit exceeded|File size limit exceeded)( \(core dumped\))?$",
    re.MULTILINE,
)
CANNOT_START: Final = re.compile(rb"annot fork|can't fork|Resource temporarily unavailable|Cannot allocate memory")

# What PID 1 executes, told in two ways.  Its identity: every executable mapping by rights, offset and file, whether a
# page of it was ever written to, and since when each file is as it is; that takes 10 ms.  Only where that changed (a
# file may be touched, and be the same) is all of it read: a digest of the content as it stands in memory, in 50 ms.
# They are put in order by what stays: the columns of the kernel are as wide as the inode of a file is long.
# The kernel's own page in PID 1 has no file to be compared with: it counts whether it was written to.
IDENTITY: Final = r"""
seen=$(awk '/^[0-9a-f]+-[0-9a-f]+ / { code = $2 ~ /x/; if (code) print $2, $3, $4, $5, $6, $7 }
    code && /^(Anonymous|Swap):/ && $2 != 0 { print "written", $0 }' /proc/1/smaps | sort)
{ echo "$seen"; echo "$seen" | sed -n 's/^[^/]*//p' | sort -u | xargs stat -c '%n %i %z'; } | sha256sum
"""
READ_CODE: Final = r"""
awk '/^[0-9a-f]+-[0-9a-f]+ / { page = $6 } page == "[vdso]" && /^(Anonymous|Swap):/ && $2 != 0 { print page, $0 }' \
    /proc/1/smaps
maps=$(grep -E '^[^ ]+ ..x' /proc/1/maps | grep -v -F -e '[vdso]' -e '[vsyscall]' |
    while read -r range rights offset _ _ path; do echo "$rights $offset ${path:-anonymous} $range"; done | sort)
echo "$maps" | sed 's/ [^ ]*$//'
echo "$maps" | sed 's/.* //' | while read -r range; do
    from=$((0x${range%-*})); size=$((0x${range#*-} - from))
    dd if=/proc/1/mem bs=65536 iflag=skip_bytes,count_bytes skip=$from count=$size 2>/dev/null || echo unreadable
done | openssl dgst -sha256
"""
# busybox's shell has all of these within itself but openssl, and need not start them.
CODE: Final = f"busybox sh -c {shlex.quote(READ_CODE)}"
AT_START: Final = f"{IDENTITY}\n{CODE}"
"""A line with the identity, then the code: what is noted when a host has just booted."""
PLACE: Final = f"stat -c '%i %F %z' /run/systemd {SOCKET}"


class BelievedShell(ExecShell):
    """A trusted shell that asks systemctl only while PID 1 is itself and answers itself."""

    def __init__(self, api: APIClient, seat: Seat, code_at_start: Callable[[], str]) -> None:
        super().__init__(api, seat)
        self._code_at_start = code_at_start
        self._host = seat.host
        self._place = ""

    def run(self, command: str, timeout: float = 10.0) -> Completed:
        """Run one command; see ``environments.Shell``.

        Raises ProbeFailed where its tools are killed or can't start, and where it asks a PID 1 that is none.
        """
        done = self._believed(command, timeout)
        if _cut_short(done):
            self._note(_cut_short(done))
            done = self._believed(command, timeout)
        if how := _cut_short(done):
            raise ProbeFailed(f"{self._host}: {how}, twice", why=f"The command was: {command.strip()[:200]}")
        return done

    def run_at_boot(self, command: str, timeout: float) -> Completed:
        """Run a command that waits for PID 1 to come up, and takes its word for it: nothing is judged by that."""
        return super().run(command, timeout)

    def _believed(self, command: str, timeout: float) -> Completed:
        if not ASKS_PID_1.search(command):
            return super().run(command, timeout)
        # PID 1 may make a folder of its own beside its socket just now: then everything is asked once more.
        for _ in range(ROUNDS):
            place = self._checked_place()
            done = super().run(command, timeout)
            if super().run(PLACE, DEADLINE).text == place:
                break
            self._place = ""
        else:
            self._refuse(f"{SOCKET} or its folder is moved whenever systemctl is asked")
        return done

    def _checked_place(self) -> str:
        """Return where PID 1 answers, after making sure that it is PID 1 who does."""
        if not self._place:
            place = super().run(PLACE, DEADLINE).text
            if doubt := self._doubt(place):
                self._refuse(doubt)
            self._place = place
        return self._place

    def _note(self, event: str) -> None:
        if (line := f"{self._host}: {event}") not in self.integrity:
            self.integrity.append(line)

    def _refuse(self, doubt: str) -> NoReturn:
        self._note(doubt)
        raise ProbeFailed(
            f"{self._host}: systemctl cannot be believed", why=doubt, next_step="breakfix reset brings the host back."
        )

    def _doubt(self, place: str) -> str:
        """Return why PID 1 may not be who answers; nothing where it is."""
        lines = place.splitlines()
        if len(lines) != 2 or " socket " not in lines[1]:  # noqa: PLR2004  # the folder and the socket
            return f"{SOCKET}, where PID 1 answers, is not a socket any more"
        if not self._pid_1_listens(inode=lines[1].partition(" ")[0]):
            return f"something other than PID 1 listens at {SOCKET}"
        identity, _, code = self._code_at_start().partition("\n")
        if not code or super().run(IDENTITY, DEADLINE).text.strip() == identity:
            return ""
        if code == (now := super().run(CODE, DEADLINE).text):
            return ""
        new = sorted(set(now.splitlines()[:-1]) - set(code.splitlines()))
        return "PID 1 does not run the code that it ran at the start" + "".join(f"; {line}" for line in new)

    def _pid_1_listens(self, inode: str) -> bool:
        """Return whether the one socket that was bound there is that file, and PID 1's alone."""
        for _ in range(LOOKS):
            listed = super().run("ss -H -xlep", DEADLINE).text.splitlines()
            bound = [line for line in listed if f" {SOCKET} " in line]
            if len(bound) != 1 or f" ino:{inode} " not in bound[0] or "pid=1," not in bound[0]:
                return False
            if PID_1_ALONE.search(bound[0]):
                return True
            # A process that PID 1 has just forked has everything of PID 1's, until it executes its program.
            time.sleep(PULSE)
        return False


def _cut_short(done: Completed) -> str:
    """Return how a command came to an end that is not its own; nothing where it is."""
    if CANNOT_START.search(done.stderr):
        return "a tool of the grading could not start"
    if "timeout" in done.command:
        return ""
    if done.exit_status in KILLED:
        return f"a tool of the grading was ended by signal {done.exit_status - 128}"
    # The shell says so of every part of a pipeline, whose status nobody sees.
    if said := KILLED_INSIDE.search(done.stderr):
        return f"a tool of the grading was ended from without: {said[0].decode().strip()}"
    return ""
