# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a BPF object: one sentence each, for whoever started the program."""


class LoadError(Exception):
    """An object, map, program or link that cannot be had; the text is one sentence that says why, and what to do."""


class MapFullError(LoadError):
    """A map has no room for another entry. `written`: how many entries of the same call are in it."""

    def __init__(self, text: str, written: int = 0) -> None:
        super().__init__(text)
        self.written = written


class PinnedLayoutError(LoadError):
    """A map is pinned whose entries look different from those of this object."""
