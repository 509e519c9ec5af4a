# SPDX-License-Identifier: Apache-2.0
"""`-p tests.hermetic.fake_guest`: a guest without a kernel, which is `plugins.guest` as a process of this machine.

GUEST_DIES_IN is part of a node id: the test in which it ends as a panic would end it.
"""

import os
import pty
import subprocess
import sys
import time
import tty
from contextlib import suppress
from pathlib import Path

import pytest

from clusters.hermetic import finding
from clusters.hermetic.talk import ALIVE, GuestError
from clusters.hermetic.wire import Message, Outside
from plugins.guests import program

PANIC = "the guest ended; its console ends with:\nKernel panic - not syncing"


class ProcessTalk:
    """Implements `Talk`."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        environ = {**os.environ, "PLUMBLINE_GUEST": os.ttyname(slave)}
        self._process = subprocess.Popen(program(), env=environ, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        self._slave = slave
        self._wire = Outside(self._master, self._master)

    def send(self, message: Message) -> None:
        dies = os.environ.get("GUEST_DIES_IN")
        if dies and dies in message.get("run", ""):
            self._process.kill()
            self._process.wait()
            raise GuestError(PANIC)
        try:
            self._wire.send(message)
        except (OSError, EOFError, TimeoutError):
            raise GuestError(PANIC) from None

    def receive(self, deadline: float) -> Message:
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            with suppress(TimeoutError):
                if ALIVE not in (message := self._wire.receive(0.05)):
                    return message
                continue
            if self._process.poll() is not None:
                raise GuestError(PANIC)
        raise GuestError(f"the guest has not finished within {deadline:g} s; its console ends with:\n(nothing)")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)
        os.close(self._slave)


@pytest.hookimpl(tryfirst=True)
def pytest_plumbline_guest() -> ProcessTalk:
    return ProcessTalk()


def pytest_addoption() -> None:
    """Before any plugin looks for the kernel."""
    finding.find = lambda *_, **__: finding.Uml(Path("linux.uml"), Path("modules"), "6.1.0", "flag")
