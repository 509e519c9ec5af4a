# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: `requirements.jsonl`, the header, the summary and the exit status (controller only)."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugins.gate import Judgement
from plugins.guests import GUESTS
from plugins.junit import unknown_is_an_error
from plugins.outcomes import FAILING, Judged, Outcome, Status, exit_status
from plugins.record import Record
from plugins.run import Run
from plugins.selection import CORE, Core
from plugins.session import DEVIATIONS, RUN, SETTINGS, selects_all_of_conformance, selects_conformance

KEY = "plumbline"
SHOWN_TOOLS = ("iptables", "nft")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Worker(config))
    elif SETTINGS in config.stash:
        config.pluginmanager.register(Report(config))


class Worker:
    """In an xdist worker: send what only the worker knows to the controller at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        workeroutput: dict[str, Any] = self._config.workeroutput  # type: ignore[attr-defined]
        workeroutput[KEY] = _local_facts(self._config)


class Report:
    """Collects every test's record, writes it down at once, and has the last word on the exit status."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._settings = config.stash[SETTINGS]
        self._path = Path(self._settings.report) / "requirements.jsonl"
        self._records: list[dict[str, Any]] = []
        self._facts: list[dict[str, Any]] = []
        self._failed: set[str] = set()
        self._fatal: int | None = None
        self._collection_failed = False
        self._stopped_by_user = False
        self._compared: tuple[Judgement | None, ...] = ()

    def pytest_report_header(self) -> list[str]:
        settings = self._settings
        origin = f" ({settings.binary_origin}: {settings.binary})" if settings.binary else ""
        host = settings.host
        backend = {"iptables": f" ({host['iptables_backend']})"} if host["iptables_backend"] else {}
        versions = {name: version for name, version in host["tools"].items() if name in SHOWN_TOOLS}
        tools = ", ".join(f"{name} {version}{backend.get(name, '')}" for name, version in versions.items())
        system = f"kernel {host['kernel']} {host['arch']}, {host['distribution']}"
        machine = f"{system}; {tools}"
        rootless = "rootless " if host["rootless"] else ""
        network = "" if settings.pod_network == "routed" else f", pod network {settings.pod_network}"
        lab = f"{rootless}lab of {settings.nodes} nodes, {settings.pods_per_node} pods each{network}"
        if settings.control_plane_version:
            lab += f", {settings.control_plane_version}"
        kernel = [f"kernel: {settings.guest}"] if settings.guest else []
        return [f"plumbline: {settings.about()}{origin}", f"cluster: {lab}; {machine}", *kernel]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._collection_failed |= report.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        fatal = getattr(report, "plumbline_fatal", None)
        if fatal is not None and self._fatal is None:
            self._fatal = fatal[0]
            session = self._config.pluginmanager.get_plugin("dsession")
            if session is not None:
                session.shouldstop = "the cluster or its proxy failed; see below"
        if report.failed:
            self._failed.add(report.nodeid)
        record = getattr(report, KEY, None)
        if record is not None:
            self._write(record)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        # pytest's and xdist's own Interrupted (-x, --maxfail, a fatal error) are subclasses.
        self._stopped_by_user = excinfo.type is KeyboardInterrupt

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        facts = getattr(node, "workeroutput", {}).get(KEY)
        if facts:
            self._facts.append(facts)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Any:
        if not self._facts:
            self._facts.append(_local_facts(self._config))
        recorded = {record["test"] for record in self._records}
        for test in sorted(self._failed - recorded):
            if selects_conformance([test], self._config.rootpath):
                self._write(_crashed(test))
        result = yield
        session.exitstatus = self._status(exitstatus)
        junit = self._config.option.xmlpath
        if junit and Path(junit).exists():
            unknown_is_an_error(Path(junit))
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._records:
            return
        terminalreporter.section(f"plumbline: {self._settings.about()}")
        for line in self._summary():
            terminalreporter.write_line(line)
        judgement = self._judgement()
        if judgement is not None:
            terminalreporter.section(f"plumbline: beside {self._config.option.baseline}")
            for line in judgement.lines:
                terminalreporter.write_line(line)

    def _write(self, record: dict[str, Any]) -> None:
        record = {**record, "kernel": self._settings.kernel()}
        self._records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _status(self, pytests: int) -> int:
        """The exit status: pytest's own where it knows better, else what the outcomes say."""
        if self._stopped_by_user or pytests in (Status.USAGE, Status.NOTHING_SELECTED, Status.PLUMBLINE_ERROR):
            return pytests
        if self._fatal is not None:
            return self._fatal
        if self._collection_failed:
            return Status.PLUMBLINE_ERROR
        judged, judgement = self._judged(), self._judgement()
        if judgement is not None and judgement.overlooks:
            judged = [
                replace(one, outcome=Outcome.KNOWN_FAILURE) if one.outcome in FAILING else one for one in judged
            ]
        status = exit_status(judged, frozenset(self._selected()))
        if judgement is not None and judgement.regressed and status in (Status.JUDGED, Status.INCOMPLETE):
            return Status.FAILED
        others_failed = self._failed - {record["test"] for record in self._records}
        if others_failed and status in (Status.JUDGED, Status.INCOMPLETE):
            return Status.FAILED
        return pytests if pytests == Status.INTERRUPTED and status == Status.JUDGED else status

    def _judgement(self) -> Judgement | None:
        """What came of the comparison with a baseline, made once: by then everything has been written."""
        if not self._compared:
            hook = self._config.hook.pytest_plumbline_baseline
            self._compared = (hook(settings=self._settings, records=self._records),)
        return self._compared[0]

    def _judged(self) -> list[Judged]:
        return [Judged(one["test"], one["id"], one["level"], Outcome.named(one["outcome"])) for one in self._records]

    def _selected(self) -> set[str]:
        return {test for facts in self._facts for test in facts["selected"]}

    def _summary(self) -> list[str]:
        lines = [f"{'topic':<16} requirements  tests  outcomes"]
        topics: dict[str, list[dict[str, Any]]] = {}
        for record in self._records:
            topics.setdefault(record["id"].partition(".")[0], []).append(record)
        for topic, records in sorted(topics.items()):
            counts = Counter(record["outcome"] for record in records)
            outcomes = ", ".join(f"{counts[one.word]} {one.word}" for one in Outcome if counts[one.word])
            ids = {record["id"] for record in records}
            lines.append(f"{topic:<16} {len(ids):>12}  {len(records):>5}  {outcomes}")
        lines += [
            *self._deviations(),
            *self._undeclared(),
            self._verdict_on_core(),
            self._oracle(),
            *self._phases(),
            *([f"kernel: {self._settings.guest}"] if self._settings.guest else ()),
            f"written: {self._path.parent}/",
        ]
        return lines

    def _deviations(self) -> list[str]:
        """Each deviation that was met: in how many tests, what it means, and who says so."""
        counts = Counter(record["deviation"] for record in self._records if record["deviation"])
        return [
            f"deviates: {one.id} ({counts[one.id]} tests): {one.sentence} {one.source}"
            for one in self._config.stash[DEVIATIONS]
            if counts[one.id]
        ]

    def _undeclared(self) -> list[str]:
        """Features that the proxy does not declare, and of which every requirement is met all the same."""
        found: dict[str, list[bool | None]] = {}
        for record in self._records:
            for feature, works in record["undeclared"].items():
                found.setdefault(feature, []).append(works)
        return [
            f"feature {feature}: works, though the proxy does not declare it ({len(tests)} tests)"
            for feature, tests in sorted(found.items())
            if all(tests)
        ]

    def _verdict_on_core(self) -> str:
        """Certified only if every test of every core requirement was collected, selected, run, and passed."""
        core = max(self._facts, key=lambda facts: int(facts["tests"]))
        selected, names = self._selected(), frozenset(core["requirements"])
        good = {Outcome.PASS, Outcome.DEVIATES, Outcome.WARNED}
        bad = {one.requirement for one in self._judged() if one.outcome not in good}
        passed = ({one.requirement for one in self._judged()} & names) - bad
        ran = {one.test for one in self._judged()}
        problems = [
            # Workers tell it at their end, which those of an interrupted run do not come to.
            (not core["tests"], "what belongs to it was not told before the run ended"),
            (not selects_all_of_conformance(self._config), "only part of conformance/ was collected"),
            (len(selected) < core["tests"], f"{core['tests'] - len(selected)} of {core['tests']} tests not selected"),
            (bool(selected - ran), f"{len(selected - ran)} selected tests not run"),
            (bool(names - passed), f"{len(names & bad)} did not pass"),
        ]
        left_out = [sentence for is_so, sentence in problems if is_so]
        if not left_out:
            return f"core level: complete, all {len(names)} requirements passed"
        return f"core level: not certified: {len(passed)} of {len(names)} requirements passed; {', '.join(left_out)}"

    def _oracle(self) -> str:
        """How often the second opinion was asked for, or why not."""
        asked = sum(int(facts["oracle_asked"]) for facts in self._facts)
        missing = next((str(facts["oracle_missing"]) for facts in self._facts if facts["oracle_missing"]), None)
        tests = sum(bool(record["oracle_asked"]) for record in self._records)
        if not asked:
            return f"oracle: not asked: {missing or 'there was nothing to ask'}"
        return f"oracle: asked {asked} times in {tests} tests"

    def _phases(self) -> list[str]:
        """Where the time went, per process."""
        lines = []
        for facts in self._facts:
            phases = facts["phases"]
            if phases:
                times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in phases.items())
                lines.append(f"time{'' if len(self._facts) == 1 else ' ' + facts['worker']}: {times}")
        return lines


def _overlooked(judged: Judged) -> Judged:
    """With a baseline that says what fails: a failure is no reason for an exit status."""
    return replace(judged, outcome=Outcome.KNOWN_FAILURE) if judged.outcome in FAILING else judged


def _crashed(test: str) -> dict[str, Any]:
    """The record of a test whose worker died before it could tell of it."""
    record = Record("unknown", "core", "", test, {}, reason="the worker process died in this test")
    return record.as_dict()


def _local_facts(config: pytest.Config) -> dict[str, Any]:
    """This process's share: the core level it collected, and how long each phase took."""
    core = config.stash.get(CORE, Core(frozenset(), 0))
    run: Run | None = config.stash.get(RUN, None)
    phases = dict(run.phases) if run else {}
    if run:
        phases["settle"] = run.settler.total
        phases["tests"] = run.seconds_in_tests - run.settler.total - phases.get("restarts", 0.0)
    guests = config.stash.get(GUESTS, None)
    told = guests.facts if guests else []
    if guests:
        phases = guests.phases()
    return {
        "requirements": sorted(core.requirements),
        "tests": core.tests,
        "selected": list(core.selected),
        "phases": phases,
        "oracle_asked": run.oracle.asked if run else sum(int(one["oracle_asked"]) for one in told),
        "oracle_missing": run.oracle.missing if run else next((one["oracle_missing"] for one in told), None),
        "worker": getattr(config, "workerinput", {}).get("workerid", "main"),
    }
