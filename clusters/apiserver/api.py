# SPDX-License-Identifier: Apache-2.0
"""The verbs of the API, with the rules every resource shares: names, metadata, conflicts, finalizers, `/status`.

Bodies come in decoded, answers go out encoded. What single resources add comes from their `Strategy`. All methods
are synchronous: one request is one step, so nothing ever sees half of one.
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from clusters.apiserver.allocators import Transaction
from clusters.apiserver.decoding import (
    PLAIN_WRITE,
    MisplacedError,
    UnknownFieldsError,
    WriteOptions,
    decode_object,
)
from clusters.apiserver.kinds import Registry, Resource
from clusters.apiserver.names import metadata_errors
from clusters.apiserver.patches import json_patch, merge_patch, strategic_merge_patch
from clusters.apiserver.status import (
    ApiError,
    InvalidError,
    JsonObject,
    already_exists,
    bad_request,
    conflict,
    forbidden_field,
    invalid,
    invalid_value,
    not_found,
    required,
    success,
    unsupported_media_type,
)
from clusters.apiserver.store import Selection, Store, Stored
from clusters.apiserver.strategies import Strategy

PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
APPLY = "application/apply-patch+yaml"

_SERVER_SET = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)
_GENERATIONS = frozenset(
    {
        "CustomResourceDefinition",
        "DaemonSet",
        "Deployment",
        "EndpointSlice",
        "Ingress",
        "IngressClass",
        "NetworkPolicy",
    }
    | {"Pod"}
)
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Without vowels and look-alikes, so that generated names spell nothing."""


def utc_now() -> str:
    """The present as the API writes times: RFC 3339, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """Preconditions and dry run of a DELETE. A propagation policy is accepted: there is no garbage collector."""

    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


class Api:
    """Create, read, update, patch and delete objects of any resource in one store."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        strategies: Mapping[tuple[str, str, str], Strategy],
        now: Callable[[], str] = utc_now,
    ) -> None:
        self.store = store
        self.registry = registry
        self._strategies = strategies
        self._plain = Strategy()
        self._now = now
        self._namespaces = _must_find(registry, "", "v1", "namespaces")

    def get(self, resource: Resource, namespace: str, name: str) -> Stored:
        """The object, or ApiError 404."""
        stored = self.store.get(resource, namespace, name)
        if stored is None:
            raise not_found(resource.plural, resource.group, name)
        return stored

    def create(self, resource: Resource, namespace: str, body: Any, options: WriteOptions = PLAIN_WRITE) -> bytes:
        """Store a new object and return it. ApiError 400, 404 (no such namespace), 409 or 422 when refused."""
        obj = self._decoded(resource, namespace, body, options)
        obj["metadata"].pop("managedFields", None)
        return self._insert(resource, namespace, obj, options)

    def _insert(self, resource: Resource, namespace: str, obj: JsonObject, options: WriteOptions) -> bytes:
        metadata = obj["metadata"]
        if metadata.pop("resourceVersion", None):
            raise bad_request("resourceVersion should not be set on objects to be created")
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"][:58] + _suffix()
        for field in _SERVER_SET:
            metadata.pop(field, None)
        if namespace and self.store.get(self._namespaces, "", namespace) is None:
            raise not_found("namespaces", "", namespace)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = self._now()
        if resource.status_apart and not resource.builtin:
            obj.pop("status", None)
        with Transaction(dry_run=options.dry_run) as transaction:
            strategy = self._strategy(resource)
            self._validate(resource, obj, lambda: strategy.prepare_create(obj, transaction))
            if self.store.get(resource, namespace, metadata["name"]) is not None:
                raise already_exists(resource.plural, resource.group, metadata["name"])
            if _has_generation(resource, obj):
                metadata["generation"] = 1
            if options.dry_run:
                return orjson.dumps(obj)
            stored = self.store.put(resource, obj)
        self._bound_ring(resource)
        return stored.raw

    def replace(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Any,
        options: WriteOptions = PLAIN_WRITE,
        *,
        status: bool = False,
    ) -> bytes:
        """PUT the object, or with `status` only its status. ApiError 404, 409 (resourceVersion, uid) or 422."""
        obj = self._decoded(resource, namespace, body, options)
        given = obj["metadata"].setdefault("name", name)
        if given != name:
            raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        return self._write(resource, self.get(resource, namespace, name), obj, options, status=status)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        content_type: str,
        patch: Any,
        options: WriteOptions = PLAIN_WRITE,
        *,
        status: bool = False,
    ) -> bytes:
        """PATCH in one of PATCH_TYPES; without a resourceVersion in the patch there is no conflict."""
        old = self.get(resource, namespace, name)
        before = old.load()
        if content_type == "application/merge-patch+json":
            if not isinstance(patch, dict):
                raise bad_request("a merge patch of an object must be an object")
            merged = merge_patch(before, patch)
        elif content_type == "application/json-patch+json":
            merged = json_patch(before, patch)
        elif content_type == "application/strategic-merge-patch+json" and resource.builtin:
            merged = strategic_merge_patch(before, patch, resource.kind)
        else:
            raise unsupported_media_type((*(PATCH_TYPES if resource.builtin else PATCH_TYPES[:2]), APPLY))
        try:
            obj = self._decoded(resource, namespace, merged, options)
        except MisplacedError:
            raise
        except ApiError as refused:
            raise invalid("", "", "", [invalid_value("patch", patch, refused.message)]) from refused
        given = obj["metadata"].get("name")
        if given != name:
            raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        if obj["metadata"].get("uid", "") not in ("", before["metadata"]["uid"]):
            error = invalid_value("metadata.uid", obj["metadata"]["uid"], "field is immutable")
            raise invalid(resource.kind, resource.group, name, [error])
        return self._write(resource, old, obj, options, status=status)

    def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        config: Any,
        options: WriteOptions,
        *,
        force: bool = False,
        status: bool = False,
    ) -> tuple[bytes, bool]:
        """Server-side apply: create the object or lay `config` over it; returns it, and whether it is new.

        ApiError 409 where other managers own fields that would change (see `ownership`), 400 or 500 for a
        configuration that cannot be applied.
        """
        from clusters.apiserver.ownership import Manager, apply, first_claims, write_claims

        config = self._configuration(resource, namespace, name, config)
        manager = Manager(options.manager, "Apply", "status" if status else "")
        if status:
            config = {
                key: value for key, value in config.items() if key in ("apiVersion", "kind", "metadata", "status")
            }
            config["metadata"] = {}
        elif resource.status_apart:
            config.pop("status", None)
        old = self.store.get(resource, namespace, name)
        if old is None:
            if status:
                raise not_found(resource.plural, resource.group, name)
            if uid := config["metadata"].get("uid"):
                why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                raise conflict(resource.plural, resource.group, name, why)
            claims = first_claims(config, manager, self._now())
            write_claims(config, claims)
            return self._insert(resource, namespace, config, options), True
        asked = {key: config["metadata"].pop(key, "") for key in ("uid", "resourceVersion")}
        merged, claims = apply(old.load(), config, manager, self._now(), force=force)
        write_claims(merged, claims)
        merged["metadata"] |= asked
        return self._write(resource, old, merged, options, status=status, applied=True), False

    def _configuration(self, resource: Resource, namespace: str, name: str, config: Any) -> JsonObject:
        """A body of an apply, checked as strictly as upstream checks it."""
        if not isinstance(config, dict) or not config.get("kind") or not config.get("apiVersion"):
            raise bad_request("invalid object type: an applied configuration must say its apiVersion and kind")
        if isinstance(config.get("metadata"), dict) and config["metadata"].get("managedFields") is not None:
            raise bad_request("metadata.managedFields must be nil")
        try:
            decoded = self._decoded(resource, namespace, config, WriteOptions(strict=True))
        except UnknownFieldsError as unknown:
            told = f"failed to create typed patch object ({namespace}/{name}; {resource.api_version}, Kind="
            why = f"{resource.kind}): .{unknown.paths[0]}: field not declared in schema"
            raise ApiError(500, "", told + why) from unknown
        given = decoded["metadata"].setdefault("name", name)
        if given != name:
            raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        return decoded

    def delete(self, resource: Resource, namespace: str, name: str, options: DeleteOptions | None = None) -> bytes:
        """Remove the object, or mark it where finalizers hold it. Returns the object or a Status, as upstream."""
        options = options or DeleteOptions()
        old = self.get(resource, namespace, name)
        obj = old.load()
        self._check_preconditions(resource, old, obj, options.uid, options.resource_version)
        if obj["metadata"].get("finalizers"):
            return old.raw if options.dry_run else self._mark_deleted(resource, old, obj)
        with Transaction(dry_run=options.dry_run) as transaction:
            self._strategy(resource).prepare_delete(obj, transaction)
            if options.dry_run:
                return self._delete_answer(resource, obj)
            if resource.key == self._namespaces.key:
                self._empty_namespace(name)
            gone = self.store.remove(resource, old).departed()
        return gone if resource.returns_deleted else self._delete_answer(resource, obj)

    def delete_collection(
        self, resource: Resource, selection: Selection, options: DeleteOptions | None = None
    ) -> list[Stored]:
        """Delete everything selected; returns what it was."""
        chosen = list(self.store.shelf(resource).select(selection))
        for stored in chosen:
            self.delete(resource, stored.namespace, stored.name, options)
        return chosen

    def clear(self, resource: Resource) -> None:
        """Remove every object of a resource that is no longer served, finalizers or not."""
        for stored in list(self.store.shelf(resource)):
            self.store.remove(resource, stored)

    def _strategy(self, resource: Resource) -> Strategy:
        return self._strategies.get(resource.key, self._plain)

    def _decoded(self, resource: Resource, namespace: str, body: Any, options: WriteOptions) -> JsonObject:
        return decode_object(resource, self._strategy(resource).shape, namespace, body, options)

    def _validate(self, resource: Resource, obj: JsonObject, prepare: Callable[[], None]) -> None:
        """Refuse what is wrong with an object's metadata together with what its strategy's `prepare` refuses."""
        metadata = obj["metadata"]
        name = metadata.setdefault("name", "")
        errors = metadata_errors(metadata)
        if not name:
            errors.insert(0, required("metadata.name", "name or generateName is required"))
        elif problem := self._strategy(resource).name_problem(name):
            errors.insert(0, invalid_value("metadata.name", name, problem))
        try:
            prepare()
        except InvalidError as refused:
            errors += refused.errors
        if errors:
            raise invalid(resource.kind, resource.group, name, errors)

    def _write(
        self,
        resource: Resource,
        old: Stored,
        obj: JsonObject,
        options: WriteOptions,
        *,
        status: bool,
        applied: bool = False,
    ) -> bytes:
        """Bring an update to pass. `applied`: field ownership is already settled in `obj`."""
        before = old.load()
        metadata, was = obj["metadata"], before["metadata"]
        self._check_preconditions(resource, old, before, metadata.get("uid", ""), metadata.get("resourceVersion", ""))
        if not applied:
            _settle_ownership(obj, before)
        writer = None if applied else (options.manager, "status" if status else "")
        if status:
            claims = {key: value for key, value in metadata.items() if key == "managedFields"}
            obj = {**before, "metadata": {**was, **claims}, "status": obj.get("status") or {}}
            self._strategy(resource).prepare_status(obj, before)
            return self._settle(resource, old, before, obj, writer, dry_run=options.dry_run)
        for field in (*_SERVER_SET, "resourceVersion"):
            metadata.pop(field, None)
            if field in was:
                metadata[field] = was[field]
        if "deletionTimestamp" in was:
            self._check_finalizers(resource, metadata, was)
        if resource.status_apart:
            obj.pop("status", None)
            if "status" in before:
                obj["status"] = before["status"]
        with Transaction(dry_run=options.dry_run) as transaction:
            strategy = self._strategy(resource)
            self._validate(resource, obj, lambda: strategy.prepare_update(obj, before, transaction))
            if "generation" in was and _desired(obj) != _desired(before):
                metadata["generation"] = was["generation"] + 1
            return self._settle(resource, old, before, obj, writer, dry_run=options.dry_run)

    def _settle(
        self,
        resource: Resource,
        old: Stored,
        before: JsonObject,
        obj: JsonObject,
        writer: tuple[str, str] | None,
        *,
        dry_run: bool,
    ) -> bytes:
        """Store what an update came to: nothing if it changed nothing, a removal if the last finalizer went.

        `writer` is a manager and a subresource, None where field ownership is settled already.
        """
        if obj == before:
            return old.raw
        if writer is not None and "managedFields" in obj["metadata"]:
            from clusters.apiserver.ownership import Manager, track_update

            track_update(obj, before, Manager(writer[0], "Update", writer[1]), self._now())
        if dry_run:
            return orjson.dumps(obj)
        metadata = obj["metadata"]
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            return self._finish_delete(resource, old, obj)
        return self.store.put(resource, obj).raw

    def _check_preconditions(
        self, resource: Resource, old: Stored, before: JsonObject, uid: str, revision: str
    ) -> None:
        """409 where the writer had another object, or another version of it, in mind. "" and "0" ask nothing."""
        if uid and uid != before["metadata"]["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
            raise conflict(resource.plural, resource.group, old.name, why + before["metadata"]["uid"])
        if revision and revision != "0" and revision != str(old.revision):
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict(resource.plural, resource.group, old.name, why)

    def _check_finalizers(self, resource: Resource, metadata: JsonObject, was: JsonObject) -> None:
        added = set(metadata.get("finalizers") or ()) - set(was.get("finalizers") or ())
        if added:
            why = "no new finalizers can be added if the object is being deleted"
            error = forbidden_field("metadata.finalizers", f"{why}, found new finalizers {sorted(added)}")
            raise invalid(resource.kind, resource.group, metadata["name"], [error])

    def _mark_deleted(self, resource: Resource, old: Stored, obj: JsonObject) -> bytes:
        if "deletionTimestamp" in obj["metadata"]:
            return old.raw
        obj["metadata"] |= {"deletionTimestamp": self._now(), "deletionGracePeriodSeconds": 0}
        return self.store.put(resource, obj).raw

    def _finish_delete(self, resource: Resource, old: Stored, obj: JsonObject) -> bytes:
        with Transaction() as transaction:
            self._strategy(resource).prepare_delete(obj, transaction)
            self.store.remove(resource, old)
        return orjson.dumps(obj)

    def _delete_answer(self, resource: Resource, obj: JsonObject) -> bytes:
        if resource.returns_deleted:
            return orjson.dumps(obj)
        metadata = obj["metadata"]
        return orjson.dumps(success(resource.plural, resource.group, metadata["name"], metadata["uid"]))

    def _empty_namespace(self, name: str) -> None:
        """At once what the namespace controller does in the background; finalizers do not hold it up."""
        for resource in self.registry:
            if resource.namespaced:
                for stored in list(self.store.shelf(resource).select(Selection(name))):
                    with Transaction() as transaction:
                        self._strategy(resource).prepare_delete(stored.load(), transaction)
                        self.store.remove(resource, stored)

    def _bound_ring(self, resource: Resource) -> None:
        if resource.keep_at_most is None:
            return
        shelf = self.store.shelf(resource)
        while len(shelf) > resource.keep_at_most:
            self.store.remove(resource, shelf.oldest())


def _must_find(registry: Registry, group: str, version: str, plural: str) -> Resource:
    found = registry.find(group, version, plural)
    assert found is not None
    return found


def _has_generation(resource: Resource, obj: JsonObject) -> bool:
    """Generations count changes of what is wanted; which kinds have one is a matter of upstream's history."""
    return resource.kind in _GENERATIONS if resource.builtin else "spec" in obj


def _desired(obj: JsonObject) -> JsonObject:
    """What a change of `generation` announces: everything but metadata and status."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _suffix() -> str:
    return "".join(_SUFFIX_LETTERS[byte % len(_SUFFIX_LETTERS)] for byte in uuid.uuid4().bytes[:5])


def _settle_ownership(obj: JsonObject, before: JsonObject) -> None:
    if "managedFields" in obj["metadata"] or "managedFields" in before["metadata"]:
        from clusters.apiserver.ownership import settle_managed_fields

        settle_managed_fields(obj, before)
