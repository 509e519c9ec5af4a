# SPDX-License-Identifier: Apache-2.0
"""A conversation with a program in a guest: messages in JSON, one a line, over a raw console of its own.

The program says something every few seconds, be it that it is alive, so that silence means a guest that hangs.
"""

import os
import select
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from clusters.hermetic.guest import REPOSITORY, Guest, GuestError
from clusters.hermetic.wire import Message, Outside

# Several times what a guest on a busy machine took between two signs of life.
SILENCE = 90.0
ALIVE = "alive"


class Talk(Protocol):
    """What a run needs of a guest; tests have one without a kernel."""

    def send(self, message: Message) -> None:
        """Raises GuestError where nobody is left."""

    def receive(self, deadline: float) -> Message:
        """The next message, signs of life left out. Raises GuestError after `deadline` seconds, or sooner."""

    def close(self) -> None:
        """End the guest."""


class GuestTalk:
    """A program in a booted guest, started with `argv`. Implements `Talk`."""

    def __init__(
        self, guest: Guest, argv: Sequence[str], *, memory: Sequence[Path] = (), show: Callable[[str], object] | None
    ) -> None:
        """`memory`: directories that are empty there, and can be written; `show` gets what the program prints."""
        self._guest = guest
        self._show = show
        self._wire = Outside(guest.speech.read_end, guest.speech.write_end)
        guest.start(argv, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, memory=memory)

    def send(self, message: Message) -> None:
        try:
            self._wire.send(message)
        except TimeoutError:
            raise self._guest.gone("does not listen") from None
        except (OSError, EOFError):
            raise self._guest.gone("ended") from None

    def receive(self, deadline: float) -> Message:
        end = time.monotonic() + deadline
        silent_until = time.monotonic() + SILENCE
        while True:
            now = time.monotonic()
            if now >= end:
                raise self._guest.gone(f"has not finished within {deadline:g} s")
            if now >= silent_until:
                raise self._guest.gone(f"has shown no sign of life for {SILENCE:g} s")
            message = self._next(min(end, silent_until) - now)
            if message is not None:
                silent_until = time.monotonic() + SILENCE
                if ALIVE not in message:
                    return message

    def close(self) -> None:
        self._guest.close()

    def _next(self, seconds: float) -> Message | None:
        """A message if one comes; what else the guest says is dealt with here."""
        guest = self._guest
        if not self._wire.has_message:
            watched = [guest.speech.read_end, guest.printed, guest.answers]
            ready = select.select(watched, [], [], seconds)[0]
            if guest.printed in ready:
                self._print(os.read(guest.printed, 1 << 16))
            if guest.speech.read_end not in ready:
                if guest.answers in ready:
                    raise guest.gone("has lost the program that runs the tests")
                return None
        try:
            return self._wire.receive(0.0)
        except TimeoutError:
            return None
        except EOFError:
            raise guest.gone("ended") from None

    def _print(self, text: bytes) -> None:
        shown = text.decode("utf-8", "replace")
        self._guest.console.extend(shown.splitlines())
        if self._show is not None:
            self._show(shown)


__all__ = ["ALIVE", "GuestError", "GuestTalk", "Message", "Talk"]
