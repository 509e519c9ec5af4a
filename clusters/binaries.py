# SPDX-License-Identifier: Apache-2.0
"""Where the programs that plumbline runs but does not contain come from: kube-proxy first of all.

In this order: what the user names, the cache, the official release (its SHA-256 checked), a build from the Go
module proxy. `python -m clusters.binaries kube-proxy` gets one from the shell and prints its path.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from clusters import elf, gobuild
from clusters.errors import UsageError
from clusters.store import Binary, Say, Store, Tool, default_cache

__all__ = ["DEFAULT_KUBERNETES", "Binary", "Tool", "at_hand", "find", "tools"]

# The newest stable release whose kube-proxy can be had both ways; clusters/tools/kubernetes pins its build.
DEFAULT_KUBERNETES = "1.37.1"

# The newest patch of the series that current kube-apiservers are released with; clusters/tools/etcd pins its build.
DEFAULT_ETCD = "3.6.16"

# The newest release of which the Go module proxy gives out all that it is built from; clusters/tools/metallb pins it.
DEFAULT_METALLB = "0.16.1"

# The newest release that can be had both ways; clusters/tools/kube-router pins its build.
DEFAULT_KUBE_ROUTER = "2.10.0"

_KUBERNETES_MODULE = Path(__file__).parent / "tools" / "kubernetes"
_ETCD_MODULE = Path(__file__).parent / "tools" / "etcd"
_METALLB_MODULE = Path(__file__).parent / "tools" / "metallb"
_KUBE_ROUTER_MODULE = Path(__file__).parent / "tools" / "kube-router"
_KUBERNETES_STAMPS = tuple(
    f"{package}.{assignment}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for assignment in ("gitVersion=v{version}", "gitMajor={major}", "gitMinor={minor}", "gitTreeState=clean")
)

KUBE_PROXY = Tool(
    name="kube-proxy",
    default=DEFAULT_KUBERNETES,
    variable="PLUMBLINE_KUBE_PROXY",
    flag="--proxy-binary",
    host="https://dl.k8s.io",
    path="release/v{version}/bin/linux/{arch}/kube-proxy",
    newest="release/stable-{minor}.txt",
    source=gobuild.GoSource(
        module="k8s.io/kubernetes",
        package="k8s.io/kubernetes/cmd/kube-proxy",
        stamps=_KUBERNETES_STAMPS,
        committed={DEFAULT_KUBERNETES: _KUBERNETES_MODULE},
    ),
    build_time="about 3 min on 2 cores",
    version_arguments=("--version",),
    version_regex=r"^Kubernetes v(\S+)$",
)
KUBE_APISERVER = Tool(
    name="kube-apiserver",
    default=DEFAULT_KUBERNETES,
    variable="PLUMBLINE_KUBE_APISERVER",
    flag=None,
    host="https://dl.k8s.io",
    path="release/v{version}/bin/linux/{arch}/kube-apiserver",
    newest="release/stable-{minor}.txt",
    source=gobuild.GoSource(
        module="k8s.io/kubernetes",
        package="k8s.io/kubernetes/cmd/kube-apiserver",
        stamps=_KUBERNETES_STAMPS,
        committed={DEFAULT_KUBERNETES: _KUBERNETES_MODULE},
    ),
    build_time="about 8 min on 2 cores",
    version_arguments=("--version",),
    version_regex=r"^Kubernetes v(\S+)$",
)
ETCD = Tool(
    name="etcd",
    default=DEFAULT_ETCD,
    variable="PLUMBLINE_ETCD",
    flag=None,
    host="https://github.com",
    path="etcd-io/etcd/releases/download/v{version}/etcd-v{version}-linux-{arch}.tar.gz",
    checksums="etcd-io/etcd/releases/download/v{version}/SHA256SUMS",
    member="etcd-v{version}-linux-{arch}/etcd",
    newest=None,
    source=gobuild.GoSource(
        module="go.etcd.io/etcd/server/v3",
        package="go.etcd.io/etcd/server/v3",
        committed={DEFAULT_ETCD: _ETCD_MODULE},
    ),
    build_time="about 1 min on 2 cores",
    version_arguments=("--version",),
    version_regex=r"^etcd Version: (\S+)$",
)
METALLB_SPEAKER = Tool(
    name="metallb-speaker",
    default=DEFAULT_METALLB,
    variable="PLUMBLINE_METALLB_SPEAKER",
    flag="--announcer-binary",
    host="https://github.com",
    path=None,
    newest=None,
    source=gobuild.GoSource(
        module="go.universe.tf/metallb",
        package="go.universe.tf/metallb/speaker",
        committed={DEFAULT_METALLB: _METALLB_MODULE},
    ),
    build_time="about 2 min on 2 cores",
)
KUBECTL = Tool(
    name="kubectl",
    default=DEFAULT_KUBERNETES,
    variable="PLUMBLINE_KUBECTL",
    flag=None,
    host="https://dl.k8s.io",
    path="release/v{version}/bin/linux/{arch}/kubectl",
    newest="release/stable-{minor}.txt",
    source=gobuild.GoSource(
        module="k8s.io/kubernetes", package="k8s.io/kubernetes/cmd/kubectl", stamps=_KUBERNETES_STAMPS
    ),
    build_time="about 2 min on 2 cores",
    version_arguments=("version", "--client"),
    version_regex=r"^Client Version: v(\S+)$",
)
KUBE_ROUTER = Tool(
    name="kube-router",
    default=DEFAULT_KUBE_ROUTER,
    variable="PLUMBLINE_KUBE_ROUTER",
    flag="--proxy-binary",
    host="https://github.com",
    # Named by GoReleaser's defaults: https://goreleaser.com/customization/checksum/
    path="cloudnativelabs/kube-router/releases/download/v{version}/kube-router_{version}_linux_{arch}.tar.gz",
    checksums="cloudnativelabs/kube-router/releases/download/v{version}/kube-router_{version}_checksums.txt",
    member="kube-router",
    newest=None,
    source=gobuild.GoSource(
        module="github.com/cloudnativelabs/kube-router/v2",
        package="github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
        stamps=("github.com/cloudnativelabs/kube-router/v2/pkg/version.Version={version}",),
        committed={DEFAULT_KUBE_ROUTER: _KUBE_ROUTER_MODULE},
    ),
    build_time="about 5 min on 2 cores",
    version_arguments=("--version",),
    version_regex=r"^Running \S*kube-router\S* version v?(\d[^\s,]*)",
)


def tools() -> dict[str, Tool]:
    """Every tool that `find` knows, by name."""
    known = (KUBE_PROXY, KUBE_APISERVER, ETCD, KUBECTL, METALLB_SPEAKER, KUBE_ROUTER)
    return {tool.name: tool for tool in known}


def find(
    tool: str,
    *,
    flag: Path | None = None,
    version: str | None = None,
    cache: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    say: Say = lambda line: print(line, file=sys.stderr, flush=True),
) -> Binary:
    """The program `tool`, fetched first if need be; `say` gets progress lines.

    `flag` is what the user named on the command line; `version` is a release ("1.37.1") or a minor release
    ("1.37": a cached patch of it, else its newest one). Raises UsageError, one sentence, when there is no way
    to have it.
    """
    spec = tools().get(tool)
    if spec is None:
        raise UsageError(f"plumbline does not know a tool named {tool}: it knows {', '.join(sorted(tools()))}.")
    wanted = _parse(spec, version) if version else None
    if flag is not None:
        return _named(spec, flag, "flag", spec.flag or "the flag", wanted)
    if environ.get(spec.variable):
        return _named(spec, Path(environ[spec.variable]), "environment", spec.variable, wanted)
    return Store(spec, cache or default_cache(environ), environ, say).get(wanted or spec.default)


def at_hand(tool: str, environ: Mapping[str, str] = os.environ) -> Binary | None:
    """The program `tool` at its default release if it need not be fetched: from the environment or the cache.

    Raises UsageError when the environment names something that cannot be used.
    """
    spec = tools()[tool]
    if environ.get(spec.variable):
        return _named(spec, Path(environ[spec.variable]), "environment", spec.variable, None)
    return Store(spec, default_cache(environ), environ, lambda _: None).cached(spec.default)


def _parse(spec: Tool, version: str) -> str:
    if not re.fullmatch(r"v?\d+\.\d+(\.\d+(-[0-9A-Za-z.]+)?)?", version):
        raise UsageError(
            f"{version!r} is not a version of {spec.name}: write a release such as {spec.default} or a minor "
            f"release such as {spec.default.rpartition('.')[0]}."
        )
    return version.removeprefix("v")


def _named(spec: Tool, path: Path, origin: Literal["flag", "environment"], source: str, wanted: str | None) -> Binary:
    absolute = path.expanduser().absolute()
    try:
        found = spec.version_of(absolute)
    except elf.NotUsableError as error:
        raise UsageError(f"{source}={path} cannot be used as {spec.name}: it {error}.") from error
    if wanted and found != wanted and not found.startswith(f"{wanted}."):
        raise UsageError(
            f"{source}={path} is {spec.name} v{found}, but v{wanted} was asked for: leave one of the two out."
        )
    return Binary(absolute, found, origin)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the path of one tool to stdout and progress to stderr. Exit status 4 is a usage error."""
    parser = argparse.ArgumentParser(prog="python -m clusters.binaries", description="Find or fetch one program.")
    parser.add_argument("tool", choices=sorted(tools()))
    parser.add_argument("--version", help="a release such as 1.37.1, or a minor release such as 1.37")
    parser.add_argument("--cache", type=Path, help="the directory to keep it in")
    options = parser.parse_args(arguments)
    for ending in (signal.SIGTERM, signal.SIGHUP):  # end as Ctrl-C does: with nothing half-made left behind
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    try:
        binary = find(options.tool, version=options.version, cache=options.cache)
    except UsageError as error:
        print(f"plumbline: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(binary.path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
