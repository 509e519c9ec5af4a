# SPDX-License-Identifier: Apache-2.0
"""`--kernel=uml`: pytest stays here, and each test of a requirement is run in a guest, whose reports are replayed.

So progress, `-x`, `-k`, `--lf`, JUnit and caches are those of any run, and under xdist each worker has a guest.
"""

import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

from clusters.errors import PlumblineError, UsageError
from clusters.hermetic.guest import Guest
from clusters.hermetic.talk import GuestTalk, Message, Talk
from plugins import guests, kernels
from plugins.guest_session import NAME
from plugins.guests import GUESTS, Guests
from plugins.judging import ShouldWarning, new_record
from plugins.options import Settings
from plugins.outcomes import Outcome
from plugins.record import Record
from plugins.requirements import requirement_of
from plugins.run import watched_by
from plugins.session import SETTINGS


@pytest.hookimpl(trylast=True)
def pytest_plumbline_guest(config: pytest.Config, settings: Settings, watched_pids: Sequence[int]) -> Talk:
    """User-Mode Linux. Raises UsageError, GuestError."""
    # What is printed where nobody captures it goes to whoever asked for that.
    show = (lambda text: print(text, end="", flush=True)) if config.option.capture == "no" else None
    worker = getattr(config, "workerinput", {}).get("workerid", "").removeprefix("gw")
    number = int(worker) if worker.isdigit() else None
    guest = Guest(kernels.binary(settings), watched_pids=watched_pids, number=number)
    try:
        report = [guests.report_directory(settings)]
        return GuestTalk(guest, guests.program(), memory=report, show=show)
    except BaseException:
        guest.close()
        raise


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """A worker's guest is booted while its tests are collected; the controller's is there since it was asked."""
    settings = config.stash.get(SETTINGS, None)
    if settings is None or settings.guest is None or in_guest(config):
        return
    workerinput: Mapping[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput is not None:
        arguments = list(map(str, workerinput["mainargv"]))
        own = config.stash[GUESTS] = Guests(config, workerinput["workerid"], arguments, watched_by(config))
        own.boot(settings)
    if GUESTS in config.stash:
        config.pluginmanager.register(Replay(config.stash[GUESTS], settings), "plumbline-replay")
        config.add_cleanup(config.stash[GUESTS].close)


def in_guest(config: pytest.Config) -> bool:
    """Whether this is the session inside."""
    return config.pluginmanager.has_plugin(NAME)


class Replay:
    """Runs requirements' tests in the guest, and has pytest believe that they ran here."""

    def __init__(self, own: Guests, settings: Settings) -> None:
        self._guests = own
        self._settings = settings

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if requirement_of(item) is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        phases: list[str] = []
        try:
            for message in self._guests.run(item, nextitem, self._settings):
                self._replay(item, message, phases)
        except PlumblineError as error:
            again = self._guests.died()
            for report in unknown(item, phases, error, fatal=again or not isinstance(error, guests.GuestError)):
                item.ihook.pytest_runtest_logreport(report=report)
            if again or not isinstance(error, guests.GuestError):
                item.session.shouldstop = "the guest failed; see above"
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Before anything is summed up: what only the guest knows. An interrupted one is not waited for."""
        try:
            return (yield)
        except BaseException as error:
            if type(error) is KeyboardInterrupt:  # pytest's own Interrupted (-x, a fatal error) is a subclass
                self._guests.close()
            raise
        finally:
            try:
                self._guests.finish()
            except PlumblineError:
                self._guests.close()

    def _replay(self, item: pytest.Item, message: Message, phases: list[str]) -> None:
        if "report" in message:
            report = item.config.hook.pytest_report_from_serializable(
                config=item.config, data=as_it_was(message["report"])
            )
            phases.append(report.when)
            item.ihook.pytest_runtest_logreport(report=report)
        elif "warning" in message:
            self._warn(item, message["warning"], message["location"])
        elif message.get("shouldstop"):
            item.session.shouldstop = message["shouldstop"]

    def _warn(self, item: pytest.Item, said: Mapping[str, Any], location: Any) -> None:
        kind = {"ShouldWarning": ShouldWarning}.get(said["category"], UserWarning)
        warning = warnings.WarningMessage(kind(said["text"]), kind, said["filename"], said["lineno"])
        place = tuple(location) if location else None
        item.config.hook.pytest_warning_recorded.call_historic(
            kwargs={"warning_message": warning, "nodeid": said["nodeid"], "when": "runtest", "location": place}
        )


def as_it_was(data: dict[str, Any]) -> dict[str, Any]:
    """A serialised report, with the tuples that JSON made lists."""
    for name in ("location", "longrepr"):
        if isinstance(data.get(name), list):
            data[name] = tuple(data[name])
    for name in ("sections", "user_properties"):
        data[name] = [tuple(one) for one in data.get(name, ())]
    return data


def unknown(
    item: pytest.Item, phases: Sequence[str], error: PlumblineError, *, fatal: bool
) -> list[pytest.TestReport]:
    """The reports of a test whose guest was lost, after those of the `phases` that it had sent."""
    record: Record = new_record(item)
    record.outcome, record.reason = Outcome.UNKNOWN, str(error)
    last = phases[-1] if phases else None
    when: Any = {None: "setup", "setup": "call", "call": "teardown"}.get(last, "teardown")
    failed = _report(item, when, "failed", str(error))
    ended = failed if when == "teardown" else _report(item, "teardown", "passed", None)
    if fatal:
        vars(failed)["plumbline_fatal"] = [4 if isinstance(error, UsageError) else 3, str(error)]
    ended.user_properties += [("requirement", record.id), ("outcome", record.outcome.word)]
    vars(ended)["plumbline"] = record.as_dict()
    return [failed] if ended is failed else [failed, ended]


def _report(item: pytest.Item, when: Any, outcome: Any, text: str | None) -> pytest.TestReport:
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome=outcome,
        longrepr=text,
        when=when,
    )
    vars(report)["plumbline_outcome"] = Outcome.UNKNOWN.word
    return report
