# SPDX-License-Identifier: Apache-2.0
"""Every known difference between the two servers, and why it does not change what a requirement sees."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """Differences whose step and place (regular expressions, whole) match: what they come to, and why they may be."""

    steps: str
    where: str
    what: str
    embedded: str
    real: str
    why: str

    def covers(self, step: str, where: str) -> bool:
        return bool(re.fullmatch(self.steps, step) and re.fullmatch(self.where, where))


PROXIES = "proxies read and write none of it"
FOLLOWS = "same meaning; clients take both"
NOTES: Sequence[Note] = (
    Note(".*", r"object\.items\[\d+\]\.(kind|apiVersion)", "items of a list", "each names its kind",
         "only the list does", "client-go ignores what repeats the list"),
    Note("services: external name", r"object\.spec\.ports", "a list sent empty", "kept empty", "left out", FOLLOWS),
    Note("endpoint slices: .*", r"object\.(endpoints|ports|endpoints\[\d+\]\.conditions)",
         "empty `endpoints`, `ports`, `conditions` of an EndpointSlice", "as sent, or `[]`", "`null`, `{}`", FOLLOWS),
    Note("service status: .*", r"object\.status\.loadBalancer(\.ingress)?", "a load balancer's ingress sent empty",
         "kept empty", "left out", FOLLOWS),
    Note("refused services: (port 0|port 65536|node port twice|source range.*)|endpoint slices: wrong family",
         r"causes\[\d+\]", "which field a refusal names",
         "the wrong field once, as written in the object", "also fields that default to it; some spelled otherwise",
         "refused by both, for the same reason"),
    Note("writing: dry run of nonsense|deleting: wrong uid", r"details\.kind", "the kind in a refusal's details",
         "of the options, or plural", "of the request, or singular", "refused by both, for the same reason"),
    Note("writing: resourceVersion in a create", "status", "creating with a resourceVersion", "400", "500",
         "refused by both"),
    Note("reading: fields of a Service|other kinds: services of a new cluster", ".*",
         "the Service `kubernetes` in `default`", "does not exist", "made by kube-apiserver, without endpoints",
         "no test uses the name or its address"),
    Note("watching: from a version of nonsense", "status",
         "a watch from a resourceVersion that is no number", "400", "500", "refused by both"),
    Note("reading: no such (group|path)|custom resources: without a definition", ".*", "404 outside all APIs",
         "a Status object", "plain text", "client-go takes both as not found"),
    Note("nodes: .*", r"object\.(spec\.taints|status\.(daemonEndpoints|nodeInfo|conditions)).*",
         "a Node without a kubelet", "as sent", "zero values filled in, and a taint until a controller sees it ready",
         "taints are for schedulers; there is none"),
    Note("other kinds: service CIDR", r".*message", "the message of a ServiceCIDR's condition", "its own", "its own",
         PROXIES),
    Note("custom resources: list", r"object\.metadata.*", "`metadata` of a list of custom objects", "no `continue`",
         "an empty one", FOLLOWS),
    Note("watching: from a version not reached", ".*", "a watch from a version in the future",
         "an ERROR event that says so", "waits for it",
         "a client that has outlived a server lists again at once"),
    Note("writing: unknown directive", "status", "a strategic merge patch with an unknown `$patch`", "400", "500",
         "refused by both"),
    Note("writing: field twice, strict", "status", "a field that is there twice, `fieldValidation=Strict`",
         "the last one holds", "400", "no client writes it"),
    Note("deleting: namespace", ".*", "a deleted namespace", "gone at once, with all in it",
         "Terminating until a controller comes", "there is no controller"),
    Note("other kinds: pod without containers|other kinds: time of nonsense", "status",
         "what kinds mean that no proxy reads", "fields are known, their values not looked at", "validated",
         "no requirement writes such objects"),
    Note("other kinds: (logs|eviction) of a pod", ".*", "subresources other than `status`", "do not exist",
         "log, exec, eviction, scale, proxy, …", "there is no kubelet"),
    Note("custom resources: created without a definition", "status", "a custom object that nobody defined",
         "defines its resource", "404", "a client that works with the real server works with both"),
    Note("describing: resource .*", "verbs|categories.*|shortNames.*", "details of discovery",
         "every verb; no categories", "per resource", "kubectl takes both"),
)  # fmt: skip
