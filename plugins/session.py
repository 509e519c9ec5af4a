# SPDX-License-Identifier: Apache-2.0
"""A run's beginning: options checked and binaries found once, in the controller, then passed to every worker."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pytest

from clusters import binaries, host
from clusters.errors import UsageError
from clusters.measure.build import program
from clusters.proxies.command import check_program
from clusters.proxies.reference import own_version
from clusters.store import Say
from plugins import deviations, hooks, kernels, known_bugs
from plugins.guests import GUESTS, Guests
from plugins.options import Settings, add_options, asked_for, parse
from plugins.record import Record
from plugins.requirements import ids_in, release
from plugins.run import Run, controller_pid
from plugins.scale import settings as scale

ROOT = Path(__file__).resolve().parents[1]
CONFORMANCE = ROOT / "conformance"
SETTINGS = pytest.StashKey[Settings]()
RUN = pytest.StashKey[Run]()
RECORD = pytest.StashKey[Record]()
DEVIATIONS = pytest.StashKey[tuple[deviations.Deviation, ...]]()
KNOWN_BUGS = pytest.StashKey[tuple[known_bugs.KnownBug, ...]]()
# Options with which pytest runs no test.
SHOW_ONLY = (
    *("requirements", "collectonly", "help", "version", "markers", "showfixtures", "show_fixtures_per_test"),
    *("cacheshow", "setupplan"),
)
HOW_TO_START = (
    "conformance tests need a system under test: type for example "
    "'pytest --proxy-mode=iptables' (plumbline's own tests: 'pytest tests')"
)
REPRODUCING = (
    "--proxy",
    "--cluster",
    "--nodes",
    "--pod",
    "--control-plane",
    "--announcer",
    "--iptables-backend",
    "--ipvs-scheduler",
    "--family",
    "--k8s-release",
    "--features",
    "--seed",
    "--services",
    "--endpoints-per-service",
    "--duration",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hooks)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check everything that can be checked before anything is started. Raises pytest.UsageError."""
    config.addinivalue_line("markers", "plumbline_requirement(requirement): what a test judges")
    config.addinivalue_line("markers", "scale: measures scale; runs only if -m names it")
    config.addinivalue_line("markers", "load: puts load on a Service; runs only if -m names it")
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        if "plumbline_settings" in workerinput:
            config.stash[SETTINGS] = Settings.loads(workerinput["plumbline_settings"])
            _load_data(config)
        return
    option = config.option
    if any(getattr(option, name, False) for name in SHOW_ONLY):
        return
    if not asked_for(option):
        if selects_conformance(config.args, config.invocation_params.dir):
            raise pytest.UsageError(HOW_TO_START)
        return
    try:
        settings = parse(option)
        scale.refuse(option)
        ids = _load_data(config)
        _check_known_failures(settings.known_failures, ids, option.known_failures)
        config.stash[SETTINGS] = _complete(settings, config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def _load_data(config: pytest.Config) -> frozenset[str]:
    """What is said of proxies we know, checked whole; returns the ids of all requirements. Raises UsageError."""
    ids = ids_in(CONFORMANCE)
    config.stash[DEVIATIONS] = deviations.load(ids)
    config.stash[KNOWN_BUGS] = known_bugs.load(ids)
    return ids


def _check_known_failures(entries: Sequence[str], ids: frozenset[str], file: str | None) -> None:
    """Raise UsageError for a known failure of a requirement that does not exist: nobody would miss its passing."""
    unknown = [name for entry in entries if (name := entry.split()[0]) not in ids]
    if unknown:
        close = get_close_matches(unknown[0], ids, n=1)
        meant = f"did you mean {close[0]!r}?" if close else "--requirements prints them all"
        raise UsageError(f"--known-failures={file}: there is no requirement {unknown[0]!r}; {meant}")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: hand the checked settings to a worker."""
    node.workerinput["plumbline_controller"] = controller_pid()
    settings = node.config.stash.get(SETTINGS, None)
    if settings is not None:
        node.workerinput["plumbline_settings"] = settings.dumps()


def selects_conformance(arguments: Sequence[str], start: Path) -> bool:
    """Whether any of pytest's arguments is, contains, or lies in `conformance/`."""
    for argument in arguments:
        path = (start / argument.partition("::")[0]).resolve()
        if path == CONFORMANCE or path in CONFORMANCE.parents or CONFORMANCE in path.parents:
            return True
    return False


def selects_all_of_conformance(config: pytest.Config) -> bool:
    """Whether nothing of `conformance/` was left out before collection could count it."""
    option, start = config.option, config.invocation_params.dir
    paths = [(start / argument).resolve() for argument in config.args]
    whole = any(path == CONFORMANCE or path in CONFORMANCE.parents for path in paths)
    return whole and not option.ignore and not option.ignore_glob


def _complete(settings: Settings, config: pytest.Config) -> Settings:
    """Add what only the machine knows: its abilities, and where the proxy's binary is."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    say = terminal.write_line if terminal else print
    # What is named is looked at first: that takes no time, while a guest takes seconds to boot.
    if config.option.proxy_binary:
        settings = _with_binary(settings, config, say)
    settings = kernels.choose(config.option, settings, say)
    scale.refuse_user(config.option.markexpr, guest=settings.guest is not None, euid=os.geteuid())
    settings = _with_kernel(settings, config)
    if settings.command:
        check_program(settings.command)
    if settings.proxy in ("kube-proxy", "kube-router") and settings.binary is None:
        settings = _with_binary(settings, config, say)
    if settings.guest is not None and scale.names_scale(config.option.markexpr):
        # A guest can keep nothing, and compiles slowly.
        with tempfile.TemporaryDirectory() as scratch:
            program(Path(scratch))
    if settings.proxy == "ebpf":
        settings = replace(settings, version=own_version())
    if settings.release is None and settings.proxy not in ("command", "none"):
        # A proxy that is not a part of Kubernetes is to keep what the newest release promises that is judged here.
        numbered = settings.version if settings.proxy == "kube-proxy" else binaries.DEFAULT_KUBERNETES
        settings = replace(settings, release=release(numbered))
    if settings.control_plane == "real":
        etcd, kube_apiserver = binaries.find("etcd", say=say), binaries.find("kube-apiserver", say=say)
        _check_place(etcd.path)
        _check_place(kube_apiserver.path)
        settings = replace(
            settings,
            etcd=str(etcd.path),
            kube_apiserver=str(kube_apiserver.path),
            control_plane_version=f"kube-apiserver {kube_apiserver.version}, etcd {etcd.version}",
        )
    if settings.announcer:
        speaker = binaries.find(
            "metallb-speaker",
            flag=Path(config.option.announcer_binary) if config.option.announcer_binary else None,
            version=config.option.announcer_version,
            say=say,
        )
        _check_place(speaker.path)
        settings = replace(settings, announcer_binary=str(speaker.path), announcer_version=speaker.version)
    if settings.guest is None:
        _make_report_directory(Path(settings.report))
    return settings


def _with_binary(settings: Settings, config: pytest.Config, say: Say) -> Settings:
    """Add where the proxy's program is, and its release."""
    option = config.option
    flag = Path(option.proxy_binary) if option.proxy_binary else None
    found = binaries.find(settings.proxy, flag=flag, version=option.proxy_version, say=say)
    _check_place(found.path)
    return replace(settings, binary=str(found.path), version=found.version, binary_origin=found.origin)


def _with_kernel(settings: Settings, config: pytest.Config) -> Settings:
    """Add what the kernel can do, which a guest is booted for: the one that runs the tests, unless xdist does."""
    if settings.guest is None:
        report = host.check(
            settings.mode,
            iptables_backend=settings.iptables_backend,
            pod_network=settings.pod_network,
            ipvs_scheduler=settings.ipvs_scheduler,
        ).as_dict()
    else:
        _make_report_directory(Path(settings.report))
        arguments = ["pytest", *map(str, config.invocation_params.args)]
        guests = Guests(config, "main", arguments)
        guests.boot(settings, prepare=False)
        try:
            report = guests.check(settings)
        except BaseException:
            guests.close()
            raise
        if kernels.guests(config.option):
            guests.close()
        else:
            config.stash[GUESTS] = guests
    settings = replace(settings, host=report)
    return replace(settings, iptables_backend=report["iptables_backend"]) if report["iptables_chosen"] else settings


def _check_place(program: Path) -> None:
    """Raise UsageError for a program that cannot be seen from inside a lab."""
    if program.resolve().is_relative_to("/run"):
        raise UsageError(f"{program} cannot be run: every lab node has a /run of its own; copy it elsewhere")


def _make_report_directory(directory: Path) -> None:
    """A directory with an empty record and nothing of an earlier run. Raises UsageError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        records = directory / "requirements.jsonl"
        # What an earlier run left would read as this run's; without its record, it is not ours to delete.
        for stale in (directory / "logs", directory / "artefacts") if records.exists() else ():
            if stale.exists():
                shutil.rmtree(stale)
        records.write_text("", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--report={directory} cannot be written: {error.strerror or error}") from None


def reproduce(config: pytest.Config, test: str) -> str:
    """The command that runs one test again, against the same system."""
    workerinput = getattr(config, "workerinput", None)
    arguments = workerinput["mainargv"][1:] if workerinput else config.invocation_params.args
    kept, take_next = [], False
    for argument in map(str, arguments):
        if take_next or argument.startswith(REPRODUCING):
            kept.append(argument)
            take_next = not take_next and "=" not in argument
        else:
            take_next = False
    return shlex.join([".venv/bin/pytest", test, *kept])
