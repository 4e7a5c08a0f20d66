"""One's own attempts: what is kept, and that trouble with the file is always the same clear error."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from breakfix.errors import NotReady
from breakfix.history import SCHEMA, History, data_folder
from breakfix.model import Check, Event, Grade, Look, Outcome, Result
from breakfix.skills import SkillRecord

if TYPE_CHECKING:
    from pathlib import Path

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "history.db"


def result(name: str, outcome: Outcome, skill: str = "linux.services", points: int = 2) -> Result:
    return Result(Check(name, f"About {name}", points, skill), outcome, Look.FIRST, "wanted", "seen", AT, 0.25)


def grade(lab: str, *outcomes: Outcome, session: str = "s1", hint_cost: int = 0) -> Grade:
    results = tuple(result(f"test_{number}", outcome) for number, outcome in enumerate(outcomes))
    return Grade(lab, "A lab", 7, session, results, AT, 3.5, 1.5, hint_cost=hint_cost)


def test_what_is_recorded_is_there_when_opened_again(path: Path) -> None:
    events = (Event("s1", AT, "start", "linux/a"), Event("s1", AT + timedelta(minutes=3), "hint", "hint 1, costs 2"))
    with History(path) as history:
        for event in events:
            history.record(event)
        history.record(Event("s2", AT, "start", "another session"))
    with History(path) as history:
        assert history.events("s1") == events
        assert history.hints_taken("s1") == 1
        assert history.hints_taken("s2") == 0
        assert history.events("never") == ()


def test_a_grade_comes_back_with_all_its_evidence(path: Path) -> None:
    hostile = replace(result("test_x", Outcome.FAILED), seen="\x1b]0;owned\x07 \udcff </script> \0")
    kept = replace(grade("linux/a"), results=(hostile,), integrity=("a probe was killed",), profile="strict")
    with History(path) as history:
        history.record_grade(kept, ("linux.services",))
        assert history.latest_grade("linux/a") == kept
        assert history.latest_grade("s1") == kept
        assert history.latest_grade("linux/b") is None


def test_an_event_with_broken_bytes_is_kept_readable(path: Path) -> None:
    with History(path) as history:
        history.record(Event("s1", AT, "grade", "name \udcff"))
        assert history.events("s1")[0].detail == "name \\udcff"


def test_the_latest_grade_is_the_one_recorded_last(path: Path) -> None:
    with History(path) as history:
        history.record_grade(grade("linux/a", Outcome.PASSED), ())
        history.record_grade(grade("linux/a", Outcome.FAILED, session="s2"), ())
        latest = history.latest_grade("linux/a")
        assert latest is not None
        assert latest.session == "s2"


def test_the_best_score_stays_and_a_grade_of_errors_has_none(path: Path) -> None:
    with History(path) as history:
        history.record_grade(grade("linux/a", Outcome.PASSED, Outcome.FAILED), ())
        history.record_grade(grade("linux/a", Outcome.PASSED, Outcome.PASSED, hint_cost=1), ())
        history.record_grade(grade("linux/a", Outcome.FAILED), ())
        history.record_grade(grade("linux/b", Outcome.PASSED, Outcome.ERROR), ())
        assert history.best_scores() == {"linux/a": 3}
        assert history.passed_labs() == {"linux/a"}


def test_only_the_latest_grade_of_a_lab_proves_a_skill(path: Path) -> None:
    with History(path) as history:
        history.record_grade(grade("linux/a", Outcome.PASSED, Outcome.PASSED), ("linux.services",))
        history.record_grade(grade("linux/a", Outcome.PASSED, Outcome.FAILED), ("linux.services",))
        history.record_grade(grade("linux/b", Outcome.PASSED), ("linux.services",))
        assert history.skills_shown() == {"linux.services": SkillRecord(2, 1, ("linux/a", "linux/b"))}


def test_an_error_of_ours_takes_no_proof_away(path: Path) -> None:
    with History(path) as history:
        history.record_grade(grade("linux/a", Outcome.PASSED), ())
        history.record_grade(grade("linux/a", Outcome.ERROR), ())
        assert history.skills_shown() == {"linux.services": SkillRecord(1, 0, ("linux/a",))}


def test_a_skill_that_was_only_skipped_is_tried_without_proof(path: Path) -> None:
    with History(path) as history:
        history.record_grade(grade("linux/a", Outcome.SKIPPED), ("linux.processes",))
        assert history.skills_shown() == {"linux.processes": SkillRecord(0, 0, ("linux/a",))}


def test_the_folder_is_the_one_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BREAKFIX_DATA", str(tmp_path / "elsewhere"))
    assert data_folder() == tmp_path / "elsewhere"
    assert History().path == tmp_path / "elsewhere" / "history.db"
    monkeypatch.delenv("BREAKFIX_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert data_folder().name == "breakfix"
    assert data_folder().is_relative_to(tmp_path)


def test_the_file_says_its_schema_and_writes_ahead(path: Path) -> None:
    with History(path):
        pass
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,) == (1,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NotReady, match="newer breakfix") as caught, History(path):
        pass
    assert "pip install --upgrade" in caught.value.next_step
    assert path.read_bytes() == before


def test_a_damaged_file_says_how_to_begin_anew(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is no database, however long one looks at it" * 50)
    with pytest.raises(NotReady, match="cannot be used") as caught, History(path):
        pass
    assert f"mv '{path}'" in caught.value.next_step


def test_a_grade_of_a_newer_breakfix_is_not_guessed_at(path: Path) -> None:
    with History(path) as history:
        history.record_grade(grade("linux/a", Outcome.PASSED), ())
    connection = sqlite3.connect(path)
    connection.execute("""UPDATE grades SET document = '{"schema_version": 99}'""")
    connection.commit()
    connection.close()
    with History(path) as history, pytest.raises(NotReady, match="newer breakfix"):
        history.latest_grade("linux/a")


def test_a_folder_that_cannot_be_made_says_where_to_go(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReady) as caught, History(tmp_path / "file" / "history.db"):
        pass
    assert "BREAKFIX_DATA" in caught.value.next_step


def test_a_full_disk_is_not_ready_and_nothing_else(path: Path) -> None:
    with History(path) as history:
        history._connection.execute("PRAGMA max_page_count = 1")  # the only full disk to be had
        big = Event("s1", AT, "grade", "x" * 100_000)
        with pytest.raises(NotReady) as caught:
            history.record(big)
    assert "full" in caught.value.why
    assert "BREAKFIX_DATA" in caught.value.next_step


def test_a_locked_file_says_to_try_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("breakfix.history.BUSY_SECONDS", 0.05)
    with History(path) as history:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotReady) as caught:
            history.record(Event("s1", AT, "start", ""))
        other.close()
    assert "try again" in caught.value.next_step


def test_a_first_start_waits_for_another_first_start(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE unrelated (x)")
    release = threading.Timer(0.3, other.execute, ["COMMIT"])
    release.start()
    with History(path) as history:
        history.record(Event("s1", AT, "start", ""))
    release.join()
    other.close()


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from breakfix.history import History
from breakfix.model import Event, Grade
at = datetime(2026, 3, 2, tzinfo=UTC)
sys.stdin.readline()
for number in range(25):
    with History(Path(sys.argv[1])) as history:
        history.record(Event(sys.argv[2], at, "hint", str(number)))
        history.record_grade(Grade(f"linux/{number}", "", 1, sys.argv[2], (), at, 0.0, 0.0), ())
"""


def test_four_processes_write_at_once_and_nothing_is_lost(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen(  # ourselves
            [sys.executable, "-c", WRITER, str(path), f"s{number}"],
            env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [(writer.communicate(timeout=60)[1], writer.returncode) for writer in writers] == [("", 0)] * 4
    with History(path) as history:
        for number in range(4):
            details = [event.detail for event in history.events(f"s{number}")]
            assert details == [str(count) for count in range(25)]
            assert history.latest_grade(f"s{number}") is not None
