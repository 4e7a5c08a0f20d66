"""The life of a session: whatever goes wrong on the way, nothing stays behind and the reason is told."""

from __future__ import annotations

import os
import signal
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from breakfix import sessions
from breakfix.errors import (
    CommandTimedOut,
    HostUnreachable,
    InvalidLab,
    NotReady,
    ProbeFailed,
    StartFailed,
    UnknownSession,
)
from breakfix.model import SessionState

if TYPE_CHECKING:
    from breakfix.model import Lab, Session, Variant
    from tests.unit.conftest import FakeEnvironment, MakeLab, Written

STEPS = ["create", "put", "boot", "plain", "client", "mark_ready"]


def deaf(_step: str) -> None:
    pass


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """A lab of two hosts with every script that there may be; both of its symptoms show."""
    made = make_lab("@baseline\ndef seen(client):\n    return {'said': client.run('baseline?').stdout}\n")
    for path in ("web/prepare.sh", "web/break.sh", "db/prepare.sh", "symptom.sh", "db/symptom.sh"):
        (made.setup / path).parent.mkdir(exist_ok=True)
        (made.setup / path).write_text(f"# {path}\n", encoding="utf-8")
    (made.setup / "web/files/etc").mkdir(parents=True)
    (made.setup / "web/files/etc/x.conf").write_bytes(b"\xff\x00")
    return made


def asked(environment: FakeEnvironment) -> list[tuple[str, str]]:
    """Return where each script ran, in order."""
    return [
        (where, next((line for line in command.splitlines() if line.startswith("# ")), command))
        for where, command, _ in environment.asked
    ]


def test_a_start_goes_in_order(environment: FakeEnvironment, lab: Lab) -> None:
    environment.answer = lambda _where, command: (0, "three" if command == "baseline?" else "", "")
    told: list[str] = []
    started = sessions.start(environment, lab, 2, told.append, "toy-1")
    # What several hosts do at once comes in any order.
    done = asked(environment)
    assert [set(done[:2]), *done[2:4], set(done[4:])] == [
        {("plain:web", "# web/prepare.sh"), ("plain:db", "# db/prepare.sh")},
        ("client", "baseline?"),
        ("plain:web", "# web/break.sh"),
        {("client", "# symptom.sh"), ("trusted:db", "# db/symptom.sh")},
    ]
    opened = {"plain", "trusted", "client"}
    assert [call for call in environment.calls if call not in opened] == [
        "prepare", "create", "put", "put", "boot", "mark_ready",
    ]  # fmt: skip
    assert told == ["creating hosts", "booting", "making the world", "breaking it", "proving that it is broken"]
    assert (started.session.state, started.session.baseline) == (SessionState.READY, {"said": "three"})
    assert (started.session.id, started.session.seed, started.session.owner) == ("toy-1", 2, sessions.owner())
    assert environment.files["web"] == {"/etc/x.conf": (b"\xff\x00", 0o644)}
    assert all(shell.closed for shell in environment.shells)


def test_scripts_are_run_strictly_and_not_for_ever(environment: FakeEnvironment, lab: Lab) -> None:
    sessions.start(environment, lab, 1, deaf)
    scripts = [(command, timeout) for where, command, timeout in environment.asked if where.startswith("plain")]
    assert all(command.startswith("bash -euo pipefail -s <<'BREAKFIX-END-OF-SCRIPT'\n# ") for command, _ in scripts)
    assert all(command.endswith("\nBREAKFIX-END-OF-SCRIPT") and timeout == 60 for command, timeout in scripts)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [NotReady("no"), HostUnreachable("dead"), RuntimeError("bug"), KeyboardInterrupt()])
def test_whatever_goes_wrong_nothing_stays(
    environment: FakeEnvironment, lab: Lab, step: str, error: BaseException
) -> None:
    environment.fail[step] = error
    expected = StartFailed if isinstance(error, HostUnreachable) else type(error)
    with pytest.raises(expected):
        sessions.start(environment, lab, 1, deaf)
    assert environment.running == {}
    assert environment.calls[-1] == "stop"
    assert all(shell.closed for shell in environment.shells)


def test_what_is_not_ready_is_found_out_before_anything_is_made(environment: FakeEnvironment, lab: Lab) -> None:
    environment.fail["prepare"] = NotReady("no image")
    with pytest.raises(NotReady, match="no image"):
        sessions.start(environment, lab, 1, deaf)
    assert environment.calls == ["prepare"]


@pytest.mark.parametrize(
    "script", ["# web/prepare.sh", "# db/prepare.sh", "baseline?", "# web/break.sh", "# symptom.sh"]
)
@pytest.mark.parametrize("error", [CommandTimedOut("slow"), ProbeFailed("broken"), KeyboardInterrupt()])
def test_whatever_goes_wrong_in_a_script_nothing_stays(
    environment: FakeEnvironment, lab: Lab, script: str, error: BaseException
) -> None:
    def answer(_where: str, command: str) -> tuple[int, str, str]:
        if script in command:
            raise error
        return 0, "", ""

    environment.answer = answer
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else StartFailed) as caught:
        sessions.start(environment, lab, 1, deaf)
    if isinstance(caught.value, StartFailed):
        assert caught.value.what == "linux/toy could not be started"
        assert caught.value.why == str(error)
    assert environment.running == {}


def test_a_script_that_fails_is_named_with_its_last_words(environment: FakeEnvironment, lab: Lab) -> None:
    words = "\n".join(f"line {number}" for number in range(20))
    environment.answer = lambda where, _command: (3 if where == "plain:db" else 0, words, "the end")
    with pytest.raises(StartFailed, match=r"prepare\.sh failed on db with status 3") as caught:
        sessions.start(environment, lab, 1, deaf)
    assert caught.value.why == "\n".join([f"line {number}" for number in range(13, 19)] + ["line 19the end"]).replace(
        "line 13\n", "line 12\nline 13\n"
    )
    assert environment.running == {}


def test_a_silent_failure_is_told_as_one(environment: FakeEnvironment, lab: Lab) -> None:
    environment.answer = lambda where, _command: (1 if where == "plain:web" else 0, "", "")
    with pytest.raises(StartFailed) as caught:
        sessions.start(environment, lab, 1, deaf)
    assert caught.value.why == "It was silent."


def test_a_symptom_may_take_its_time(environment: FakeEnvironment, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PULSE", 0)
    tries: list[str] = []

    def answer(where: str, _command: str) -> tuple[int, str, str]:
        if where == "trusted:db":
            tries.append(where)
            return (0 if len(tries) > 3 else 1), "", ""
        return 0, "", ""

    environment.answer = answer
    assert sessions.start(environment, lab, 1, deaf).session.state is SessionState.READY
    assert len(tries) == 4


@pytest.mark.parametrize("where", ["client", "trusted:db"])
def test_a_symptom_that_never_shows_is_no_start(
    environment: FakeEnvironment, lab: Lab, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(sessions, "PULSE", 0)
    monkeypatch.setattr(sessions, "SYMPTOM_DEADLINE", 0.02)

    def answer(at: str, command: str) -> tuple[int, str, str]:
        return (1 if at == where and "symptom" in command else 0), "it answers", " still"

    environment.answer = answer
    with pytest.raises(StartFailed, match="the broken state could not be proven") as caught:
        sessions.start(environment, lab, 1, deaf)
    assert "symptom.sh ended with status 1" in caught.value.why
    assert "it answers still" in caught.value.why
    assert "breakfix selftest" in caught.value.next_step
    assert environment.running == {}
    assert "mark_ready" not in environment.calls


def test_a_lab_without_a_symptom_does_not_start(environment: FakeEnvironment, make_lab: MakeLab) -> None:
    with pytest.raises(InvalidLab, match="proves its broken state"):
        sessions.start(environment, make_lab(), 1, deaf)
    assert environment.running == {}


def test_a_broken_template_leaves_nothing(environment: FakeEnvironment, lab: Lab) -> None:
    (lab.setup / "db/break.sh.j2").write_text("\n{{ colour }}", encoding="utf-8")
    with pytest.raises(InvalidLab, match="'colour' is undefined"):
        sessions.start(environment, lab, 1, deaf)
    assert environment.running == {}


def test_trouble_while_cleaning_up_does_not_hide_the_trouble(environment: FakeEnvironment, lab: Lab) -> None:
    environment.fail = {"boot": StartFailed("did not boot"), "stop": NotReady("engine gone")}
    with pytest.raises(StartFailed, match="did not boot"):
        sessions.start(environment, lab, 1, deaf)


def test_it_is_cleaned_up_where_nobody_listens_any_more(environment: FakeEnvironment, lab: Lab) -> None:
    def tell(_step: str) -> None:
        if "boot" in environment.calls:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        sessions.start(environment, lab, 1, tell)
    assert environment.running == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_does_not_stop_the_clean_up(
    environment: FakeEnvironment, lab: Lab, number: signal.Signals
) -> None:
    heard: list[tuple[int, bool]] = []
    before = signal.signal(number, lambda one, _: heard.append((one, bool(environment.running))))
    environment.fail["boot"] = KeyboardInterrupt()
    environment.on["stop"] = lambda: os.kill(os.getpid(), number)
    try:
        with pytest.raises(KeyboardInterrupt):
            sessions.start(environment, lab, 1, deaf)
        # It is heard once nothing is there any more, and so is the next.
        assert heard == [(number, False)]
        os.kill(os.getpid(), number)
        assert heard == [(number, False)] * 2
    finally:
        signal.signal(number, before)


def test_a_reset_is_the_same_session_made_anew(environment: FakeEnvironment, lab: Lab) -> None:
    first = sessions.start(environment, lab, 3, deaf).session
    environment.calls.clear()
    again = sessions.reset(environment, first, lab, deaf).session
    assert (again.id, again.seed, again.state) == (first.id, 3, SessionState.READY)
    assert environment.calls[0] == "stop"


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_go_where_they_stand(variant: Variant) -> None:
    files = variant.lab.setup / "web/files"
    for path, content in {
        "etc/{{ service }}/a.conf.j2": "port={{ port }}\n",
        "etc/plain.conf": "{{ not a template }}",
        "usr/sbin/{{ service }}d": "#!/bin/sh\n",
    }.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_text(content, encoding="utf-8")
    daemon = files / "usr/sbin/{{ service }}d"
    daemon.chmod(daemon.stat().st_mode | stat.S_IXUSR)
    assert sessions.host_files(variant, "web") == {
        f"/etc/{variant.service}/a.conf": (f"port={variant.port}\n".encode(), 0o644),
        "/etc/plain.conf": (b"{{ not a template }}", 0o644),
        f"/usr/sbin/{variant.service}d": (b"#!/bin/sh\n", 0o755),
    }
    assert sessions.host_files(variant, "db") == {}


def test_an_undefined_name_in_a_path_is_told(variant: Variant) -> None:
    path = variant.lab.setup / "web/files/{{ colour }}"
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(InvalidLab) as caught:
        sessions.host_files(variant, "web")
    assert caught.value.problems[0].path == path


# -- which session -----------------------------------------------------------------------------------------------------


@pytest.fixture
def three(environment: FakeEnvironment, session: Session, monkeypatch: pytest.MonkeyPatch) -> FakeEnvironment:
    monkeypatch.setenv("BREAKFIX_OWNER", "me")
    others = {"toy-abc": "linux/toy", "dns-half-abc": "linux/dns-half", "disk-abc": "linux/disk"}
    environment.running = {name: replace(session, id=name, lab=lab) for name, lab in others.items()}
    environment.running["toy-theirs"] = replace(session, id="toy-theirs", owner="them")
    return environment


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("toy-abc", "toy-abc"),
        ("toy", "toy-abc"),
        ("linux/dns-half", "dns-half-abc"),
        ("dns", "dns-half-abc"),
        ("disk", "disk-abc"),
    ],
)
def test_a_session_goes_by_its_id_its_beginning_or_its_lab(three: FakeEnvironment, wanted: str, found: str) -> None:
    assert sessions.find(three.sessions("me"), wanted).id == found


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        (None, "3 sessions match"),
        ("d", "2 sessions match"),
        ("nope", "no session matches 'nope'"),
        ("toy-theirs", "no session matches 'toy-theirs'"),
    ],
)
def test_what_does_not_mean_one_session_is_answered_with_all(
    three: FakeEnvironment, wanted: str | None, what: str
) -> None:
    with pytest.raises(UnknownSession) as caught:
        sessions.find(three.sessions("me"), wanted)
    assert caught.value.what == what
    assert caught.value.why == "Running: toy-abc, dns-half-abc, disk-abc"


def test_the_only_session_needs_no_name(three: FakeEnvironment) -> None:
    three.running = {"toy-abc": three.running["toy-abc"], "toy-theirs": three.running["toy-theirs"]}
    assert sessions.find(three.sessions("me"), None).id == "toy-abc"


def test_where_nothing_runs_the_next_step_is_told(environment: FakeEnvironment) -> None:
    with pytest.raises(UnknownSession, match="no session runs") as caught:
        sessions.find(environment.sessions("me"), "toy")
    assert caught.value.next_step == "breakfix list, then breakfix start LAB"


def test_ids_are_new_each_time_and_say_which_lab(variant: Variant) -> None:
    ids = {sessions.new_id(variant.lab) for _ in range(50)}
    assert len(ids) == 50
    assert all(one.startswith("toy-") for one in ids)


def test_an_owner_is_who_one_says_or_who_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BREAKFIX_OWNER", "team-7")
    assert sessions.owner() == "team-7"
    monkeypatch.setenv("BREAKFIX_OWNER", "")
    monkeypatch.setenv("LOGNAME", "ada")
    assert sessions.owner() == "ada"


def test_a_new_lab_starts(environment: FakeEnvironment, written: Written) -> None:
    lab = written.lab()
    assert sessions.start(environment, lab, lab.seeds[0], deaf).session.lab == "linux/written"
