"""The pytest plugin that turns a grader's tests into results."""

from __future__ import annotations

import inspect
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from _pytest.assertion import util

from breakfix.errors import BreakfixError, GraderFailed
from breakfix.grading.checks import declared
from breakfix.model import Look, Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from testinfra.host import Host

    from breakfix.grading.probes import Probes
    from breakfix.model import Check, JsonValue, Variant
    from breakfix.probes.cloud import Cloud
    from breakfix.probes.cluster import Cluster
    from breakfix.probes.terraform import TerraformProbe

PULSE: Final = 0.25
"""Seconds between two looks at a check that must hold for a while."""

SETTLING: Final = {Look.FIRST: 1.0, Look.RESTARTED: 5.0}
"""Seconds in which what does not work yet is asked again: systemd calls most services started before they listen."""

CLUSTER_SETTLING: Final = 5.0
"""The same in a cluster, at every look: one question over its network may take seconds, and deserves a second try."""

WORDS: Final = {
    "==": "",
    "!=": "anything but ",
    "<": "less than ",
    "<=": "at most ",
    ">": "more than ",
    ">=": "at least ",
}


class GradingPlugin:
    """Collects the results of one look."""

    def __init__(self, variant: Variant, probes: Probes, baseline: dict[str, JsonValue], look: Look) -> None:
        self.results: dict[str, Result] = {}
        self.collected: tuple[Check, ...] = ()
        self.broken: list[str] = []
        self.interrupted = False
        self.waited = 0.0
        self._variant = variant
        self._probes = probes
        self._baseline = baseline
        self._look = look
        self._compared: tuple[str, str] | None = None
        self._held: list[str] = []
        self._holding: list[tuple[Check, Callable[[], object], float]] = []
        patience = CLUSTER_SETTLING if variant.lab.cluster else SETTLING[look]
        self._settled = time.monotonic() + patience

    # -- what a grader may ask for -------------------------------------------------------------------------------------

    @pytest.fixture(scope="session")
    def lab(self) -> Variant:
        """Return the lab as this session drew it: ``lab.service``, ``lab.hosts["web"].address``, ``lab.token(…)``."""
        return self._variant

    @pytest.fixture(scope="session")
    def hosts(self) -> dict[str, Host]:
        """Every host by name, as testinfra hosts over the trusted shell."""
        return self._probes.hosts

    @pytest.fixture(scope="session")
    def host(self, hosts: dict[str, Host]) -> Host:
        """Return the first host: the only one in most labs."""
        return next(iter(hosts.values()))

    @pytest.fixture(scope="session")
    def client(self) -> Host:
        """Return the container beside the hosts, for everything that goes over the network."""
        return self._probes.client

    @pytest.fixture(scope="session")
    def plain(self) -> Callable[..., object]:
        """Return ``plain(command, *args, host=NAME)``: a host's own tools, at low trust."""
        return self._probes.plain

    @pytest.fixture(scope="session")
    def cluster(self) -> Cluster:
        """Return the session's part of a cluster; see ``breakfix.probes.cluster``."""
        return self._probes.cluster

    @pytest.fixture(scope="session")
    def terraform(self) -> TerraformProbe:
        """Return what tries a candidate's configuration in a sandbox; see ``breakfix.probes.terraform``."""
        return self._probes.terraform

    @pytest.fixture(scope="session")
    def cloud(self) -> Cloud:
        """Return the lab's cloud; see ``breakfix.probes.cloud``."""
        return self._probes.cloud

    @pytest.fixture(scope="session")
    def baseline(self) -> dict[str, JsonValue]:
        """Return what the grader's ``@baseline`` function saw before anything was broken."""
        return self._baseline

    # -- what pytest tells us ------------------------------------------------------------------------------------------

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a grader that can't be read."""
        if report.failed:
            self.broken.append(str(report.longrepr))

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Note every check before the first is asked, so that the total is known whatever happens."""
        # Tracebacks of checks are read by nobody, and drawing them takes longer than everything else.
        config.option.tbstyle = "no"
        checks = [(item.name, declared(getattr(item, "obj", None))) for item in items]
        self.broken += [f"{name} is a test without @check" for name, found in checks if found is None]
        self.collected = tuple(found for _, found in checks if found is not None)
        # Results are kept by name: of two with one name, one would be lost, and its points with it.
        names = [found.name for found in self.collected]
        self.broken += [f"{name} is there more than once" for name in sorted({n for n in names if names.count(n) > 1})]
        if self.broken:
            items.clear()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip what needs a check that did not pass."""
        if unmet := self._unmet(_check(item)):
            pytest.skip(unmet)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool:
        """Ask, and remember a check that must hold: it is asked again until its seconds are over."""
        check = _check(pyfuncitem)
        wanted = inspect.signature(pyfuncitem.obj).parameters
        arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
        ask = partial(pyfuncitem.obj, **arguments)
        self._ask(ask)
        if check.stable_for:
            self._holding.append((check, ask, time.monotonic()))
        return True

    def _ask(self, check: Callable[[], object]) -> None:
        """Ask once, and where that fails again until the hosts had time to settle.  All but the first is waiting."""
        try:
            self._ask_once(check)
        except AssertionError:
            answered = time.monotonic()
            if answered >= self._settled:
                raise
        else:
            return
        try:
            self._ask_again(check)
        finally:
            self.waited += time.monotonic() - answered

    def _ask_again(self, check: Callable[[], object]) -> None:
        while True:
            time.sleep(PULSE)
            try:
                self._ask_once(check)
            except AssertionError:
                if time.monotonic() >= self._settled:
                    raise
            else:
                return

    def _ask_once(self, check: Callable[[], object]) -> None:
        self._compared = None
        self._held = []
        check()

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> None:
        """Note what was expected and what was seen, while both are still there."""
        word = WORDS.get(op, f"{op} ")
        self._compared = (f"{word}{_shown(right)}", _shown(left))

    def pytest_assertion_pass(self, expl: str) -> None:
        """Note what held, with the values that were seen: a pass has evidence too."""
        self._held.append(expl.partition("\n")[0])
        # A comparison that held explains no later failure.
        self._compared = None

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note a Ctrl-C, which pytest keeps to itself."""
        # pytest calls it an interrupt too where it gives up a grader that can't be read.
        self.interrupted = isinstance(excinfo.value, KeyboardInterrupt) and not isinstance(
            excinfo.value, pytest.Session.Interrupted
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what became of a test into a result, in the phase that decided it."""
        report = yield
        check = _check(item)
        if call.excinfo is not None:
            self.results[check.name] = self._judge(check, call.excinfo, call.duration, call.when)
        elif call.when == "call":
            self.results[check.name] = self._result(
                check, Outcome.PASSED, check.title, self._what_held(), call.duration
            )
        return report

    # -- what we make of it --------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Watch the checks that must hold, all at the same time, until the longest is over."""
        begun = time.monotonic()
        holding = [entry for entry in self._holding if self.results[entry[0].name].outcome is Outcome.PASSED]
        # pytest explains comparisons for the tests that it runs itself; these are asked by us.
        before = util._reprcompare  # noqa: SLF001
        util._reprcompare = self.pytest_assertrepr_compare  # noqa: SLF001
        try:
            while holding:
                time.sleep(PULSE)
                holding = [entry for entry in holding if self._still(*entry)]
        finally:
            util._reprcompare = before  # noqa: SLF001
        self.waited += time.monotonic() - begun
        for check in self.collected:
            if self.results[check.name].outcome is Outcome.PASSED and (unmet := self._unmet(check)):
                # What it needs broke off after it was asked.
                self.results[check.name] = self._result(check, Outcome.SKIPPED, check.title, unmet, 0.0)

    def _unmet(self, check: Check) -> str:
        """Return in words which check that it needs did not pass; nothing where all did."""
        for name in check.needs:
            result = self.results.get(name)
            if result is None or result.outcome is not Outcome.PASSED:
                return f"needs “{result.check.title if result else name}”, which did not pass"
        return ""

    def _still(self, check: Check, ask: Callable[[], object], since: float) -> bool:
        """Ask once more; return True while there is more to ask."""
        held = time.monotonic() - since
        self._compared = None
        try:
            ask()
        except BaseException as raised:  # the verdict of a check is what it raises
            if isinstance(raised, KeyboardInterrupt):
                raise
            verdict = self._judge(check, pytest.ExceptionInfo.from_exception(raised), held, "call")
            self.results[check.name] = self._broke_off(verdict, held)
            return False
        return held < check.stable_for

    def _broke_off(self, verdict: Result, held: float) -> Result:
        seen = f"held for {held:.1f} s of {verdict.check.stable_for:g} s, then: {verdict.seen}"
        return self._result(verdict.check, verdict.outcome, verdict.expected, seen, held)

    def _what_held(self) -> str:
        return _shown("; ".join(self._held)) if self._held else "nothing that was asked failed"

    def _judge(
        self, check: Check, info: pytest.ExceptionInfo[BaseException], seconds: float, when: str | None
    ) -> Result:
        error = info.value
        if isinstance(error, pytest.skip.Exception) and when == "setup" and self._unmet(check):
            return self._result(check, Outcome.SKIPPED, check.title, str(error.msg), seconds)
        if isinstance(error, AssertionError) and when == "call":
            expected, seen = self._evidence(check, str(error))
            return self._result(check, Outcome.FAILED, expected, seen, seconds)
        seen = str(error) if isinstance(error, BreakfixError) else f"{type(error).__name__}: {error}"
        return self._result(check, Outcome.ERROR, check.title, seen, seconds)

    def _evidence(self, check: Check, message: str) -> tuple[str, str]:
        """Return expected and seen: of a comparison its two sides, with what the author says of it in front."""
        said, _, rest = message.partition("\n")
        explained = said.startswith("assert ")
        if self._compared:
            expected, seen = self._compared
            return (expected if explained else f"{said}: {expected}", seen)
        return check.title, message if explained or not rest else said

    def _result(self, check: Check, outcome: Outcome, expected: str, seen: str, seconds: float) -> Result:
        return Result(check, outcome, self._look, expected, seen, datetime.now(UTC), round(seconds, 4))


def _check(item: pytest.Item) -> Check:
    found = declared(getattr(item, "obj", None))
    if found is None:
        raise GraderFailed(f"{item.name} is a test without @check")
    return found


def _shown(value: object) -> str:
    text = value if isinstance(value, str) and value and "\n" not in value else repr(value)
    return text if len(text) <= 2000 else f"{text[:2000]}… ({len(text) - 2000} more characters)"  # noqa: PLR2004


def options(folder: str) -> list[str]:
    """Return pytest's arguments: nothing from the user's or a candidate's configuration, no cache, no output."""
    # The two that look for what was left behind collect all garbage for it, which takes as long as a grade.
    garbage = ("unraisableexception", "threadexception")
    without = ("terminal", "cacheprovider", "logging", "faulthandler", "debugging", *garbage)
    quiet = [f"-pno:{name}" for name in without]
    apart = ["--noconftest", "-c", "/dev/null", f"--rootdir={folder}", "--import-mode=importlib"]
    return [
        *quiet,
        *apart,
        "--override-ini=python_functions=test_*",
        "--override-ini=enable_assertion_pass_hook=true",
        folder,
    ]
