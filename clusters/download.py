# SPDX-License-Identifier: Apache-2.0
"""Downloads one released file over HTTP(S) and lets it through only if its SHA-256 is the published one."""

import hashlib
import re
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it

import urllib3

from clusters.errors import UsageError

# A machine without internet must move on to the next way quickly; a slow mirror may still take its time.
CONNECT_SECONDS = 3.0
READ_SECONDS = 60.0
CHUNK_BYTES = 1 << 20


class UnavailableError(Exception):
    """The host cannot be reached or does not have the file; the text is a clause that names the host."""


def text(url: str, environ: Mapping[str, str]) -> str:
    """The first 4 MiB of a text file at `url`, as ASCII. Raises UnavailableError."""
    with _get(url, environ) as response:
        try:
            return response.read(4 << 20, decode_content=True).decode("ascii", "replace")
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(f"{_host(url)} broke off ({_reason(error)})") from error


def verified(url: str, checksum_url: str, target: Path, environ: Mapping[str, str]) -> int:
    """Writes the file at `url` to `target` and returns its size in bytes.

    `checksum_url` names a file that holds the SHA-256 in hex, alone or, as `sha256sum` prints it, in a line with the
    file's name. Raises UnavailableError when the host, the file or its checksum cannot be had (half a file may be at
    `target` then), UsageError when the file is not the one promised. https://kubernetes.io/releases/download/#binaries
    """
    expected = _promised(text(checksum_url, environ), url.rpartition("/")[2])
    if expected is None:
        raise UnavailableError(f"{_host(url)} answers {checksum_url} with something that is not a SHA-256")
    size, digest = _write(url, target, environ)
    if digest != expected:
        target.unlink()
        raise UsageError(
            f"The file at {url} is not the published one (its SHA-256 should be {expected} and is {digest}) "
            f"and was removed: check what stands between this machine and {_host(url)}."
        )
    return size


def _promised(checksums: str, name: str) -> str | None:
    """The SHA-256 that a checksum file of one line, or of a line for each file, gives for the file `name`."""
    lines = [line.split() for line in checksums.splitlines() if line.strip()]
    for line in lines:
        if re.fullmatch(r"[0-9a-fA-F]{64}", line[0]) and (len(lines) == 1 or line[-1].lstrip("*") == name):
            return line[0].lower()
    return None


def _write(url: str, target: Path, environ: Mapping[str, str]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with _get(url, environ) as response, target.open("wb") as file:
        try:
            for chunk in response.stream(CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(f"{_host(url)} broke off after {size} bytes ({_reason(error)})") from error
    return size, digest.hexdigest()


def _get(url: str, environ: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UsageError(f"{url} is not an http or https address: correct PLUMBLINE_DOWNLOAD_BASE.")
    proxy = _proxy(url, environ)
    _resolve(urlsplit(proxy or url), _host(url))
    try:
        response = _manager(proxy).request("GET", url, preload_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise UnavailableError(f"{_host(url)} cannot be reached ({_reason(error)})") from error
    if response.status != 200:
        response.close()
        raise UnavailableError(f"{_host(url)} answers {url} with HTTP {response.status}")
    return response


def _manager(proxy: str | None) -> urllib3.PoolManager:
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
    retries = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5)
    if proxy is None:
        return urllib3.PoolManager(timeout=timeout, retries=retries)
    credentials = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, timeout=timeout, retries=retries)


def _proxy(url: str, environ: Mapping[str, str]) -> str | None:
    """The HTTP proxy to use, by the variables that curl, pip and Go read as well."""
    parts = urlsplit(url)
    value = environ.get(f"{parts.scheme}_proxy") or environ.get(f"{parts.scheme.upper()}_PROXY")
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if not value or proxy_bypass_environment(parts.hostname or "", {"no": exempt}):
        return None
    return value if "://" in value else f"http://{value}"


def _resolve(parts: SplitResult, host: str) -> None:
    """Raises UnavailableError unless the name resolves in time: the resolver itself may take 10 s."""
    failure: list[str] = ["no answer from the name server"]

    def look_up() -> None:
        try:
            socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        except OSError as error:
            failure[0] = error.strerror or str(error)
        else:
            failure.clear()

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if failure:
        raise UnavailableError(f"{host} cannot be reached ({failure[0].lower()})")


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _reason(error: BaseException) -> str:
    """A network library's error in a few words: the innermost one that says something."""
    inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
    if isinstance(inner, BaseException) and inner is not error:
        return _reason(inner)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
