# SPDX-License-Identifier: Apache-2.0
"""`--keep-lab` and `--lab-shell`: a person looks inside the lab when the tests are over."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

import pytest

from clusters.errors import PlumblineError
from clusters.lab.doors import make_doors
from clusters.lab.provider import Lab
from plugins.options import Settings
from plugins.run import Run, watched_by
from plugins.session import RUN, SETTINGS


@contextmanager
def session_run(config: pytest.Config) -> Iterator[Run]:
    """This process's run: over with its tests, or when whoever wanted to look inside has done so."""
    worker = getattr(config, "workerinput", {}).get("workerid", "main")
    run = Run(config.stash[SETTINGS], config.hook, worker, watched_by(config))
    if not run.settings.keeps_lab:
        with run:
            config.stash[RUN] = run
            yield run
        return
    run.__enter__()
    config.stash[RUN] = run
    config.add_cleanup(lambda: run.__exit__(None, None, None))
    yield run


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """After everything is said and written: the shell, or waiting."""
    settings = config.stash.get(SETTINGS, None)
    if settings is None or not settings.keeps_lab or hasattr(config, "workerinput"):
        return
    run = config.stash.get(RUN, None)
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    try:
        if run is None:  # no test asked for a lab, but a person does
            with session_run(config) as run:
                _show(run, settings)
        elif run.broken:
            print("the lab cannot be kept: it or its proxy has failed, see above")
        else:
            _show(run, settings)
    except PlumblineError as error:
        print(f"the lab cannot be shown: {error}", file=sys.stderr)


def _show(run: Run, settings: Settings) -> None:
    lab = run.cluster
    if not isinstance(lab, Lab):
        return
    doors = Path(settings.report) / "lab"
    make_doors(lab, doors)
    try:
        if settings.lab_shell:
            print(f"a shell on {settings.lab_shell}; the lab ends with it", flush=True)
            subprocess.run([doors / settings.lab_shell], check=False)
            return
        print(
            f"the lab is kept until you press Ctrl-C:\n  kubectl --kubeconfig={doors / 'kubeconfig'} get services -A"
        )
        for node in lab.nodes:
            print(f"  {doors / node.name}  (a shell there, or the command that you give it)")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            lab.supervisor.await_end()
            print("the lab has ended")
    finally:
        rmtree(doors, ignore_errors=True)
