# SPDX-License-Identifier: Apache-2.0
"""Where the API server is and how to prove who asks, from a kubeconfig.

https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/; JSON is read at once, YAML needs PyYAML. Of the ways
to log in there are tokens and client certificates; plug-ins (`exec`, `auth-provider`) are none for a node's agent.
"""

import base64
import binascii
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct

from dataplane_ref.controller.settings import SettingsError

if TYPE_CHECKING:
    import ssl


class Access(Struct, frozen=True):
    """An API server, and what to show it. `path` stands before every path."""

    host: str
    port: int
    path: str = ""
    token: str = ""
    token_file: Path | None = None
    tls: "ssl.SSLContext | None" = None

    def connect(self, timeout: float) -> HTTPConnection:
        """A connection that is made with the first request; times are in seconds."""
        if self.tls is None:
            return HTTPConnection(self.host, self.port, timeout=timeout)
        return HTTPSConnection(self.host, self.port, timeout=timeout, context=self.tls)

    def headers(self) -> dict[str, str]:
        """What every request carries. A token in a file is read each time, because it is replaced there."""
        token = self.token
        if self.token_file is not None:
            token = self.token_file.read_text(encoding="ascii").strip()
        return {"Accept": "application/json", "User-Agent": "plumbline-controller"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )


def read(path: Path) -> Access:
    """Raises SettingsError: one sentence that names the file."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"the kubeconfig {path} cannot be read: {error.strerror}") from None
    try:
        return _access(_parse(text), path.parent)
    except SettingsError as error:
        raise SettingsError(f"the kubeconfig {path} {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SettingsError(f"the kubeconfig {path} is not one: {error!r}") from None


def _parse(text: bytes) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        pass
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError("is neither YAML nor JSON") from None


def _named(config: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    for each in config.get(f"{kind}s") or ():
        if each["name"] == name:
            found: Mapping[str, Any] = each[kind]
            return found
    raise SettingsError(f"names the {kind} {name!r}, which it does not have")


def _access(config: Any, folder: Path) -> Access:
    if not isinstance(config, Mapping):
        raise SettingsError("is empty, or no mapping")
    current = config.get("current-context")
    if not current:
        raise SettingsError("has no current-context")
    context = _named(config, "context", current)
    cluster = _named(config, "cluster", context["cluster"])
    user = _named(config, "user", context["user"]) if context.get("user") else {}
    server = urlsplit(cluster["server"])
    if server.scheme not in ("http", "https") or not server.hostname:
        raise SettingsError(f"has the server {cluster['server']!r}, which must look like https://192.0.2.1:6443")
    if user.get("exec") or user.get("auth-provider"):
        raise SettingsError("logs in by a plug-in (exec or auth-provider): give it a token or a client certificate")
    token_file = user.get("tokenFile")
    return Access(
        host=server.hostname,
        port=server.port or (443 if server.scheme == "https" else 80),
        path=server.path.rstrip("/"),
        token=user.get("token") or "",
        token_file=folder / token_file if token_file else None,
        tls=_tls(cluster, user, folder) if server.scheme == "https" else None,
    )


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> "ssl.SSLContext":
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority = _data(cluster, "certificate-authority", folder)
    try:
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif authority:
            context.load_verify_locations(cadata=authority.decode("ascii"))
        else:
            context.load_default_certs()
        certificate, key = _data(user, "client-certificate", folder), _data(user, "client-key", folder)
        if certificate and key:
            _load_pair(context, certificate, key)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise SettingsError(f"has a certificate that cannot be used: {error}") from None
    return context


def _load_pair(context: "ssl.SSLContext", certificate: bytes, key: bytes) -> None:
    """OpenSSL reads a key only from a file: one that nobody else may read, and not for longer than that."""
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name)


def _data(given: Mapping[str, Any], name: str, folder: Path) -> bytes:
    """A value that stands in the file itself, in base64, or in a file of its own."""
    if given.get(f"{name}-data"):
        try:
            return base64.b64decode(str(given[f"{name}-data"]), validate=True)
        except binascii.Error:
            raise SettingsError(f"has {name}-data that is not base64") from None
    if given.get(name):
        path = folder / str(given[name])
        try:
            return path.read_bytes()
        except OSError as error:
            raise SettingsError(f"names {path}, which cannot be read: {error.strerror}") from None
    return b""
