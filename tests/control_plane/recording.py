# SPDX-License-Identifier: Apache-2.0
"""A conversation with an API server, and what of it can be compared with the same conversation elsewhere."""

import base64
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import urllib3

Flat = dict[str, str]
# What no two servers share, or one server on two days: identities, times, and who wrote which field.
PRIVATE = frozenset(
    {"uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields", "lastTransitionTime"}
)
ALLOCATED = frozenset({"clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort"})
OPAQUE = frozenset({"continue"})


@dataclass(frozen=True)
class Answer:
    """One answer: HTTP status and the decoded body (text, if it is not JSON)."""

    status: int
    body: Any
    content_type: str

    def __getitem__(self, name: str) -> Any:
        return self.body[name]


@dataclass
class Recorder:
    """Sends requests to one server and remembers the answers, each under the name of its step."""

    server: str
    token: str
    pool: urllib3.PoolManager
    steps: dict[str, Flat] = field(default_factory=dict)
    case: str = ""

    @classmethod
    def of(cls, kubeconfig: str) -> "Recorder":
        config = json.loads(kubeconfig)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        ca = cluster.get("certificate-authority-data")
        context = ssl.create_default_context(cadata=base64.b64decode(ca).decode()) if ca else None
        pool = urllib3.PoolManager(ssl_context=context, retries=False, timeout=20.0)
        return cls(cluster["server"], user["token"], pool)

    def call(
        self,
        step: str,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> Answer:
        """Send one request; its answer is part of the comparison unless the step is called ''."""
        words = {name.rstrip("_"): value for name, value in query.items()}  # continue_ is Python's, not the API's
        url = self.server + path + (f"?{urlencode(words)}" if words else "")
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type, **(headers or {})}
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        response = self.pool.request(method, url, body=data, headers=sent)
        kind = response.headers.get("Content-Type", "")
        answer = Answer(response.status, _decoded(response.data, kind), kind.partition(";")[0])
        if step:
            self.note(step, {"status": answer.status, **_comparable(answer)})
        return answer

    def watch(self, step: str, path: str, count: int, **query: str) -> list[Any]:
        """The first `count` events of a watch."""
        url = f"{self.server}{path}?{urlencode({'watch': 'true', 'timeoutSeconds': '5', **query})}"
        response = self.pool.request(
            "GET", url, headers={"Authorization": f"Bearer {self.token}"}, preload_content=False
        )
        events: list[Any] = []
        rest = b""
        try:
            while len(events) < count and (chunk := response.read1(1 << 16)):
                *lines, rest = (rest + chunk).split(b"\n")
                events += [json.loads(line) for line in lines]
            if len(events) < count and rest:  # a refusal need not end its line
                events.append(json.loads(rest))
        finally:
            response.close()
        self.note(step, {"status": response.status, "events": events[:count]})
        return events

    def note(self, step: str, value: object) -> None:
        """Remember anything else that can be compared."""
        self.steps[f"{self.case}: {step}"] = dict(_flat("", _normal(value)))


def differences(embedded: Recorder, real: Recorder) -> list[tuple[str, str, str, str]]:
    """Step, where in the answer, what the embedded server says, what the real one says."""
    found = []
    for step in dict.fromkeys([*embedded.steps, *real.steps]):
        ours, theirs = embedded.steps.get(step, {}), real.steps.get(step, {})
        if ours.get("status") != theirs.get("status"):
            # Whatever else is in there follows from it.
            found.append((step, "status", _told(ours), _told(theirs)))
            continue
        places = sorted(ours.keys() | theirs.keys())
        found += [
            (step, at, ours.get(at, "–"), theirs.get(at, "–")) for at in places if ours.get(at) != theirs.get(at)
        ]
    return found


def _told(flat: Flat) -> str:
    reason = flat.get("reason", "")
    return " ".join(part for part in (flat.get("status", "no answer"), reason.strip('"')) if part)


def _decoded(data: bytes, content_type: str) -> Any:
    if "json" in content_type:
        return json.loads(data) if data else {}
    return data.decode(errors="replace")


def _comparable(answer: Answer) -> dict[str, Any]:
    """An object as it is; of a refusal what programs read: reason and causes, not the wording."""
    body = answer.body
    if not isinstance(body, dict):
        return {"text": body, "type": answer.content_type}
    if body.get("kind") == "Status" and body.get("status") == "Failure":
        details = body.get("details") or {}
        causes = sorted((cause.get("field", ""), cause.get("reason", "")) for cause in details.get("causes") or ())
        refusal: dict[str, Any] = {"reason": body.get("reason"), "code": body.get("code")}
        for name in ("name", "group", "kind"):
            refusal[f"details.{name}"] = details.get(name)
        return refusal | {"causes": [f"{where} {why}" for where, why in causes]}
    return {"object": body}


def _normal(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _normal(inner, name) for name, inner in value.items() if name not in PRIVATE}
    if isinstance(value, list):
        return [_normal(inner, key) for inner in value]
    if key in OPAQUE and value:
        return "<token>"
    if key in ALLOCATED and value != "None" and value != 0:
        return f"<{'IPv6' if ':' in str(value) else 'IPv4' if '.' in str(value) else 'port'}>"
    return value


def _flat(path: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [pair for name in value for pair in _flat(f"{path}.{name}" if path else name, value[name])]
    if isinstance(value, list) and value:
        return [pair for number, inner in enumerate(value) for pair in _flat(f"{path}[{number}]", inner)]
    return [(path, json.dumps(value, ensure_ascii=False))]
