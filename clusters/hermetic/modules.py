# SPDX-License-Identifier: Apache-2.0
"""Which files make up a kernel module: what modprobe(8) knows from modules.dep and modules.alias.

`-` and `_` are the same in names. Formats: modules.dep(5), depmod(8).
"""

import fnmatch
from collections.abc import Iterator
from pathlib import Path


class Modules:
    """The modules of one directory, usually `…/modules/VERSION`; read when first asked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, list[str]] = {}
        self._aliases: dict[str, list[str]] = {}
        self._patterns: list[tuple[str, str]] = []
        self._builtin: frozenset[str] = frozenset()
        self._has_read = False

    def files(self, name: str) -> list[Path] | None:
        """The files to load for a module or an alias, in order; none where it is built in; None if unknown."""
        self._read()
        name = _plain(name)
        if name in self._builtin:
            return []
        found = [name] if name in self._files else list(self._matching(name))
        if not found:
            return None
        return [self._directory / file for one in found for file in self._files.get(one, ())]

    def _matching(self, name: str) -> Iterator[str]:
        yield from self._aliases.get(name, ())
        yield from (module for pattern, module in self._patterns if fnmatch.fnmatchcase(name, pattern))

    def _read(self) -> None:
        if self._has_read:
            return
        self._has_read = True
        for line in self._lines("modules.dep"):
            file, _, needed = line.partition(":")
            self._files[_module(file)] = [*reversed(needed.split()), file]
        for line in self._lines("modules.alias"):
            word, *rest = line.split()
            if word != "alias":
                continue
            pattern, module = _plain(rest[0]), _plain(rest[1])
            if "*" in pattern or "[" in pattern or "?" in pattern:
                self._patterns.append((pattern, module))
            else:
                self._aliases.setdefault(pattern, []).append(module)
        self._builtin = frozenset(_module(line) for line in self._lines("modules.builtin"))

    def _lines(self, name: str) -> list[str]:
        return (self._directory / name).read_text(encoding="utf-8").splitlines()


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _module(file: str) -> str:
    """`kernel/net/ipv4/ip-tables.ko.xz` is `ip_tables`."""
    return _plain(file.rpartition("/")[2].partition(".")[0])
