# SPDX-License-Identifier: Apache-2.0
"""A download host, an empty cache and a PATH on which the tests decide whether there is a Go."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clusters import binaries, elf
from clusters.store import Binary
from tests.binaries import mirror, programs

RELEASE = f"/release/v1.37.1/bin/linux/{elf.architecture()}/kube-proxy"


@dataclass
class Place:
    """Where `find` is tried: nothing in it is this machine's own."""

    root: Path
    mirror: mirror.Mirror
    said: list[str] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        return self.root / "cache" / "plumbline" / "bin"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": str(self.root / "bin"),
            "HOME": str(self.root),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "PLUMBLINE_DOWNLOAD_BASE": self.mirror.url,
        }

    def find(
        self,
        tool: str = "kube-proxy",
        *,
        flag: Path | None = None,
        version: str | None = None,
        say: Callable[[str], None] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Binary:
        return binaries.find(
            tool,
            flag=flag,
            version=version,
            environ={**self.environ, **(settings or {})},
            say=say or self.said.append,
        )

    def left_in_cache(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir()) if self.cache.exists() else []

    def install_go(self, script: str, version: str = "go1.99.0") -> None:
        """A go command that knows its version; `script` is what else it does, with $1 the subcommand."""
        text = f"#!/bin/sh\ncase $1 in env) printf '{version}\\nlocal\\n'; exit ;; esac\n{script}\n"
        programs.write(self.root / "bin" / "go", text.encode())

    def built(self, content: bytes) -> str:
        """The part of a go command that builds `content`: its argument after -o is the output."""
        source = programs.write(self.root / "built", content)
        return f'while [ "$1" != -o ]; do shift; done; exec /bin/cp {source} "$2"'


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "bin").mkdir()
    with mirror.serving() as server:
        yield Place(tmp_path, server)


@pytest.fixture
def kube_proxy() -> bytes:
    return programs.program("Kubernetes v1.37.1\n")
