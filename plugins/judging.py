# SPDX-License-Identifier: Apache-2.0
"""From what happened in a test to its outcome: the one place where pytest's reports get plumbline's words."""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from clusters.agent.client import Recording
from clusters.errors import PlumblineError, UsageError
from clusters.lab.provider import lab_abilities
from clusters.proxies.configuration import DEFAULT
from clusters.proxies.kube_proxy import features_of
from clusters.proxies.kube_router import KubeRouter
from clusters.proxies.reference import FEATURES
from plugins.deviations import Deviation
from plugins.failures import five_lines, save_artefacts
from plugins.flows import ViolationError
from plugins.known_bugs import looks_like
from plugins.options import Settings
from plugins.oracle import DisagreementError
from plugins.outcomes import FAILING, Outcome
from plugins.packets import as_pcap, as_text
from plugins.record import Record
from plugins.requirements import SCHEDULER, Requirement, axes_of, requirement_of
from plugins.run import Run
from plugins.selection import is_transition, not_promised, undeclared, unfit
from plugins.session import DEVIATIONS, KNOWN_BUGS, RECORD, RUN, SETTINGS, reproduce
from plugins.world import UnfitError

# The first failures get their rules and connection tables saved; later ones mostly repeat them.
MAX_WITH_ARTEFACTS = 10
SAVED = pytest.StashKey[int]()


class ShouldWarning(UserWarning):
    """A SHOULD requirement was not met."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, before anything is arranged, what does not apply or cannot be judged here."""
    requirement = requirement_of(item)
    if requirement is None:
        return
    settings = item.config.stash[SETTINGS]
    item.stash[RECORD] = new_record(item)
    reason = not_promised(requirement, settings.release)
    if reason:
        _unsupported(item.stash[RECORD], ())
        pytest.skip(f"unsupported: {reason}")
    missing = undeclared(requirement, _features(settings))
    why = _not_to_be_tried(requirement, missing) if missing else None
    if why is not None:
        _unsupported(item.stash[RECORD], missing)
        pytest.skip(f"unsupported: {_does_not_declare(missing)}{why}")
    run = item.config.stash.get(RUN, None)
    # Before anything is up, the lab's abilities stand for the cluster's: it is the only provider there is.
    abilities = run.cluster.abilities if run else _lab_abilities(settings)
    reason = unfit(requirement, settings.nodes, abilities)
    if reason and missing:
        _unsupported(item.stash[RECORD], missing)
        pytest.skip(f"unsupported: {_does_not_declare(missing)}; not tried: {reason}")
    if reason:
        item.stash[RECORD].outcome = Outcome.UNFIT
        pytest.skip(f"unfit: {reason}")


def _lab_abilities(settings: Settings) -> frozenset[str]:
    announcer = settings.announcer is not None
    return lab_abilities(bpf=settings.loads_bpf, sctp=settings.speaks_sctp, announcer=announcer)


def _does_not_declare(features: Sequence[str]) -> str:
    return f"the proxy does not declare {', '.join(features)}"


def _not_to_be_tried(requirement: Requirement, missing: Sequence[str]) -> str | None:
    """Why a requirement about what is not declared is not even tried, as the end of a sentence; None where it is."""
    if "disruptive" in requirement.needs:
        return ", and to try it would do damage"
    # It chooses in some other way, which is not for it to be both.
    return "" if any(feature.startswith(SCHEDULER) for feature in missing) else None


def _unsupported(record: Record, features: Sequence[str], *, works: bool | None = None) -> None:
    record.outcome = Outcome.UNSUPPORTED
    record.undeclared = dict.fromkeys(features, works)


def _features(settings: Settings) -> frozenset[str] | None:
    """The features the proxy declares; None where nobody says, and each requirement is given its chance."""
    if settings.proxy == "kube-proxy":
        return features_of(settings.mode, settings.ipvs_scheduler)
    if settings.proxy == "kube-router":
        return KubeRouter.features
    if settings.proxy == "ebpf":
        return FEATURES
    return frozenset(settings.features) if settings.proxy == "command" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    started = time.monotonic()
    run = item.config.stash.get(RUN, None)
    if run is not None and RECORD in item.stash and not run.broken:
        with suppress(PlumblineError):  # that the lab is gone is for the test to find out
            run.cluster.rewind()
            if is_transition(item):
                run.cluster.forget_flows()
    try:
        yield
    finally:
        if RECORD in item.stash:
            item.stash[RECORD].seconds = time.monotonic() - started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    requirement = requirement_of(item)
    if requirement is None:
        return report
    record = item.stash.setdefault(RECORD, new_record(item))
    judge = Judge(item, requirement, record, report)
    missing = undeclared(requirement, _features(judge.settings))
    if missing and judge.tried(missing, call.excinfo):
        pass
    elif call.excinfo is not None and isinstance(call.excinfo.value, UnfitError):
        judge.unfit(str(call.excinfo.value))
    elif call.excinfo is not None and not report.skipped:
        judge.failed(call.excinfo)
    elif report.when == "call" and report.passed:
        judge.passed()
    elif report.skipped:
        record.reason = _skip_reason(report)
        if record.outcome is Outcome.UNKNOWN:  # a test's own pytest.skip: whatever it says, nothing was judged
            record.outcome = Outcome.UNFIT
    # Attributes of a report travel to xdist's controller and into the reportlog with it.
    vars(report)["plumbline_outcome"] = record.outcome.word
    if report.when == "teardown":
        # JUnit shows the properties of the last report.
        report.user_properties += [("requirement", requirement.id), ("outcome", record.outcome.word)]
        vars(report)["plumbline"] = record.as_dict()
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """An unknown in the test itself is an error, not a failure of the dataplane."""
    if report.when == "call" and report.failed and getattr(report, "plumbline_outcome", None) == "unknown":
        return "error", "E", "ERROR"
    return None


class Judge:
    """Gives one phase's report its outcome and text."""

    def __init__(
        self, item: pytest.Item, requirement: Requirement, record: Record, report: pytest.TestReport
    ) -> None:
        self.item = item
        self.requirement = requirement
        self.record = record
        self.report = report
        self.settings: Settings = item.config.stash[SETTINGS]

    def tried(self, missing: Sequence[str], excinfo: pytest.ExceptionInfo[BaseException] | None) -> bool:
        """A test of what the proxy does not declare counts neither way; False if this phase has nothing to say of it.

        An error of ours is one here as well, and a judgement stands, whatever happened afterwards.
        """
        error = excinfo.value if excinfo else None
        if isinstance(error, UnfitError):
            reason, works = f"{_does_not_declare(missing)}; not tried: {error}", None
        elif self.report.when != "call" or self.report.skipped:
            return False
        elif error is None and self.record.settled:
            reason, works = f"works, though {_does_not_declare(missing)}", True
        elif error is None or isinstance(error, AssertionError | pytest.fail.Exception):
            reason, works = f"{_does_not_declare(missing)}; tried: {error or self.record.reason}", False
        else:
            return False
        _unsupported(self.record, missing, works=works)
        self._skipped(f"unsupported: {reason}")
        return True

    def passed(self) -> None:
        """A test that ran to its end passed, unless the dataplane had not settled or the failure was known."""
        record = self.record
        if not record.settled:
            record.outcome = Outcome.UNKNOWN
            self._save_artefacts()
            self._fail(f"it passed, but proves nothing: {record.reason}")
        elif self.requirement.level == "record":
            record.outcome = Outcome.RECORDED
        elif self._is_known():
            record.outcome = Outcome.STALE_KNOWN_FAILURE
            self._fail("it passes: take it out of the --known-failures file, or name the axes it fails for")
        else:
            record.outcome = Outcome.PASS

    def deviates(self, deviation: Deviation, what: str) -> None:
        """All that was found wrong is what the proxy means to do; where nothing had settled, that proves nothing."""
        if not self.record.settled:
            self.record.outcome = Outcome.UNKNOWN
            self._fail(f"it deviates as {deviation.id} says, but proves nothing: {self.record.reason}")
            return
        self.record.outcome = Outcome.DEVIATES
        self.record.deviation = deviation.id
        self.record.reason = what
        self.report.outcome = "passed"
        self.report.longrepr = None

    def failed(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """A judgement against the dataplane, or an error of our own."""
        error = excinfo.value
        if self.report.when == "teardown" and self.record.outcome in FAILING:
            self._tell_fatal(error)  # the judgement stands, whatever happened afterwards
        elif not isinstance(error, AssertionError | pytest.fail.Exception):
            self._unknown(error)
        elif self.report.when != "call":
            self.record.outcome = Outcome.UNKNOWN
            self.record.reason = str(error)
        elif self.requirement.level == "record":
            self.record.outcome = Outcome.RECORDED
            self.record.reason = str(error)
            self.report.outcome = "passed"
        elif self.requirement.strength == "should":
            self.record.outcome = Outcome.WARNED
            self.record.reason = str(error)
            self.report.outcome = "passed"
            try:
                self.item.warn(ShouldWarning(self._text(str(error))))
            except ShouldWarning as warning:  # the user asked for warnings to be errors
                self.report.outcome, self.report.longrepr = "failed", str(warning)
        elif isinstance(error, AssertionError) and (deviation := self._deviation(error)):
            self.deviates(deviation, str(error))
        elif self._is_known():
            self.record.outcome = Outcome.KNOWN_FAILURE
            self.record.reason = str(error)
            self.report.outcome = "skipped"
            self.report.wasxfail = "known failure"
        else:
            self.record.outcome = Outcome.FAIL
            self._save_artefacts()
            self._fail(str(error))

    def unfit(self, reason: str) -> None:
        """The environment lacks something that only the test itself could find out."""
        self.record.outcome = Outcome.UNFIT
        self._skipped(f"unfit: {reason}")
        self.record.reason = reason

    def _skipped(self, reason: str) -> None:
        self.record.reason = reason
        self.report.outcome = "skipped"
        path, line, _ = self.item.location
        self.report.longrepr = (path, line or 0, reason)

    def _deviation(self, error: AssertionError) -> Deviation | None:
        """The deviation within which lies all that a failure found wrong: in its probes, or else in the latest."""
        found = error.probes if isinstance(error, ViolationError) else ()
        probes = found or (self.record.latest,)
        named = (self.requirement.id, self.record.axes, self.settings.system, probes)
        return next((one for one in self.item.config.stash[DEVIATIONS] if one.covers(*named)), None)

    def _is_known(self) -> bool:
        return self.settings.is_known_to_fail(self.requirement.id, self.record.axes)

    def _unknown(self, error: BaseException) -> None:
        self.record.outcome = Outcome.UNKNOWN
        self.record.reason = str(error)
        if isinstance(error, DisagreementError):
            self.report.longrepr = str(error)
        self._tell_fatal(error)

    def _tell_fatal(self, error: BaseException) -> None:
        """The lab or the proxy is gone: nothing after this can be judged, so the session ends."""
        if not isinstance(error, PlumblineError):
            return
        self.report.longrepr = str(error)
        vars(self.report)["plumbline_fatal"] = [4 if isinstance(error, UsageError) else 3, str(error)]
        self.item.session.shouldstop = "the cluster or its proxy failed; see above"
        run = self.item.config.stash.get(RUN, None)
        if run is not None:
            run.broken = True

    def _fail(self, what: str) -> None:
        self.report.outcome = "failed"
        self.record.reason = what if self.record.settled else self.record.reason
        self.report.longrepr = self._text(what)

    def _text(self, what: str) -> str:
        record = self.record
        note, record.reason = record.reason, record.reason if not record.settled else None
        system = f"{self.settings.about()}; kernel {self.settings.kernel()}"
        run = self.item.config.stash.get(RUN, None)
        if run is not None and run.configured != DEFAULT:
            system += f"; proxy-config {run.configured}"
        bugs = self.item.config.stash[KNOWN_BUGS]
        text = five_lines(
            self.requirement,
            record,
            what,
            reproduce(self.item.config, self.item.nodeid),
            system,
            looks_like(bugs, self.requirement.id, self.settings.system, f"{what} [{record.observed}]"),
        )
        record.reason = note
        return text

    def _save_artefacts(self) -> None:
        run = self.item.config.stash.get(RUN, None)
        saved = self.item.config.stash.get(SAVED, 0)
        if run is None or saved >= MAX_WITH_ARTEFACTS:
            return
        self.item.config.stash[SAVED] = saved + 1
        name = "-".join([self.requirement.id, *self.record.axes.values()])
        with suppress(PlumblineError):
            # First what goes on, then what stands still.
            # Where a node has not followed, it need not be the one at which traffic entered.
            nodes = [seen["node"] for seen in self.record.observations] if self.record.settled else []
            files = _packets({**run.cluster.recorded(), **self.record.watched}) | _attachments(run, nodes)
            self.record.artefacts = save_artefacts(Path(self.settings.report), name, files)


def _packets(recordings: Mapping[str, Recording]) -> dict[str, str | bytes]:
    """The packets of the test: as the nodes and the external client saw them, and at the places it watched itself."""
    files: dict[str, str | bytes] = {}
    for name, recording in recordings.items():
        if recording.packets:
            files[f"{name}.packets.txt"] = as_text(recording)
            files[f"{name}.packets.pcap"] = as_pcap(recording)
    return files


def _attachments(run: Run, nodes: list[str | None]) -> dict[str, str | bytes]:
    """The rules and tables of the node the traffic entered at (from outside: of every node)."""
    texts: dict[str, str | bytes] = {}
    for node in sorted({node for node in nodes if node} or {node.name for node in run.cluster.nodes}):
        shown = {**run.proxy.rules(node), **run.cluster.diagnostics(node), "proxy log": run.proxy.log_tail(node)}
        texts |= {f"{node}.{title}.txt": text for title, text in shown.items()}
    return texts


def new_record(item: pytest.Item) -> Record:
    """An empty record for a test of a requirement; its configuration may still have placeholders."""
    requirement = requirement_of(item)
    assert requirement is not None
    record = Record(requirement.id, requirement.level, requirement.sentence, item.nodeid, axes_of(item))
    record.proxy_config = requirement.configuration.as_dict()
    return record


def _skip_reason(report: pytest.TestReport) -> str:
    text = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
