# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 in front of the API: tokens, dispatch, forms of answers and watch connections.

The dispatch is by hand: aiohttp's router, middlewares and access log cost more than everything else a request does.
"""

import asyncio
import hmac
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import ClientConnectionResetError, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpProcessingError, RawRequestMessage

from clusters.apiserver.api import APPLY, Api
from clusters.apiserver.bodies import decode, decode_json, decode_yaml, delete_options
from clusters.apiserver.control import ROOT, Control
from clusters.apiserver.decoding import WriteOptions
from clusters.apiserver.faults import Caller, CutError, Faults, Viewer
from clusters.apiserver.kinds import Resource
from clusters.apiserver.lists import encode_list, list_body
from clusters.apiserver.negotiation import CONTENT_TYPES, Form, choose
from clusters.apiserver.options import chosen, parse_list, parse_watch, parse_write, wants_dry_run, wants_watch
from clusters.apiserver.paths import Target, parse_target, verb
from clusters.apiserver.status import (
    ApiError,
    JsonObject,
    bad_request,
    internal_error,
    method_not_allowed,
    no_such_path,
    unauthorized,
)
from clusters.apiserver.store import Selection
from clusters.apiserver.watch import Hub, error_line

if TYPE_CHECKING:
    from clusters.apiserver.tables import Presenter

HEALTH_PATHS = frozenset({"/readyz", "/livez", "/healthz"})
MAX_BODY_BYTES = 3 * 2**20
"""A real server's limit for one object."""

IDLE_SECONDS = 3600.0
"""An idle connection stays open: a client's pool that outlives it would have its next request reset."""

_JSON = "application/json"


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message of aiohttp says something of this server, and not that a client speaks no HTTP."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOGGER = logging.getLogger(__name__)
_LOGGER.addFilter(_is_news)


class Handler:
    """Answers every request of one listening socket; `web.Server(handler)` calls it.

    `guarded`: the API, too, needs the token. `node` is the name of the node whose socket this is, for faults.
    """

    def __init__(
        self,
        api: Api,
        hub: Hub,
        faults: Faults,
        control: Control,
        token: str,
        *,
        guarded: bool = True,
        node: str = "",
    ) -> None:
        self._api = api
        self._hub = hub
        self._faults = faults
        self._control = control
        self._authorization = f"Bearer {token}".encode()
        self._guarded = guarded
        self._node = node

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path in HEALTH_PATHS:
            return web.Response(text="ok")
        try:
            controls = request.path.startswith(ROOT)
            if (self._guarded or controls) and not self._is_authorized(request):
                raise unauthorized()
            return await (self._answer_control(request) if controls else self._answer(request))
        except ApiError as error:
            return _failure(error)
        except web.HTTPRequestEntityTooLarge:
            return _failure(ApiError(413, "RequestEntityTooLarge", f"limit is {MAX_BODY_BYTES} bytes"))
        except CutError:
            return _broken(request)
        except ConnectionError:
            return _broken(request)  # the client went away while it was answered
        except (RecursionError, orjson.JSONEncodeError):
            return _failure(bad_request("the object is nested too deeply"))
        except Exception as problem:
            # A defect of this server: told to the client as an answer, and to whoever reads the log in full.
            _LOGGER.exception("%s %s", request.method, request.path)
            return _failure(internal_error(f"{type(problem).__name__}: {problem}"))

    def _is_authorized(self, request: web.BaseRequest) -> bool:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(errors="surrogateescape"), self._authorization)

    async def _answer_control(self, request: web.BaseRequest) -> web.Response:
        body = await request.read() if request.body_exists else b""
        code, document = await self._control.answer(request.method, request.path, lambda: decode_json(body))
        return _json(orjson.dumps(document), code)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        match parts := request.path.strip("/").split("/"):
            case ["api", version, *rest] if rest:
                return await self._resource(request, parse_target("", version, rest))
            case ["apis", group, version, *rest] if rest:
                return await self._resource(request, parse_target(group, version, rest))
        # What describes the server, or shapes answers for people, is imported when it is first asked for: every
        # lab waits for this process to start.
        from clusters.apiserver.documents import AGGREGATED, document

        form: Form = "json"
        if parts in AGGREGATED:
            form = choose(_accept(request), ("discovery", "json"))
        found = document(self._api.registry, parts, aggregated=form == "discovery")
        if found is None:
            raise no_such_path()
        return _document(request, found, form)

    async def _resource(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        # The body is read before anything is looked up, so that what follows is one step.
        body = await request.read() if request.body_exists else b""
        caller = None
        if self._faults.active:
            caller = self._caller(request, target)
            await self._faults.before(caller)
        resource = self._api.registry.find(target.group, target.version, target.plural)
        if resource is None:
            return self._first_of_its_kind(request, target, body)
        if target.name is not None and resource.namespaced and target.namespace is None:
            raise no_such_path()
        if target.namespace is not None and not resource.namespaced:
            raise no_such_path()
        # Without a definition nobody knows whether a custom resource has a status of its own: it may be used.
        has_status = resource.status_apart or resource.learnt
        if target.subresource is not None and not (target.subresource == "status" and has_status):
            raise no_such_path()
        if target.name is not None:
            return self._object(request, resource, target, body)
        return await self._collection(request, resource, target, body, caller)

    def _caller(self, request: web.BaseRequest, target: Target) -> Caller:
        watches = request.method == "GET" and wants_watch(_query(request))
        asked = verb(request.method, named=target.name is not None, watches=watches)
        return Caller(target.plural, asked, request.headers.get("User-Agent", ""), self._node)

    def _first_of_its_kind(self, request: web.BaseRequest, target: Target, body: bytes) -> web.Response:
        """A resource nobody defined comes to be by a POST: its kind from the object, its scope from the path."""
        if request.method != "POST" or not target.group or target.name is not None:
            raise no_such_path()
        decoded = _decode(request, body)
        kind = decoded.get("kind") if isinstance(decoded, dict) else None
        if not isinstance(kind, str) or not kind:
            raise bad_request("the first object of a new resource must have a kind")
        namespaced = target.namespace is not None
        registry = self._api.registry
        resource = registry.learn(target.group, target.version, target.plural, kind, namespaced=namespaced)
        try:
            response = self._create(request, resource, target, decoded, "json")
        except ApiError:
            registry.remove(resource)
            raise
        if wants_dry_run(_query(request)):
            registry.remove(resource)
        return response

    async def _collection(
        self, request: web.BaseRequest, resource: Resource, target: Target, body: bytes, caller: Caller | None
    ) -> web.StreamResponse:
        query = _query(request)
        form = _form(request, resource)
        match request.method:
            case "GET" if wants_watch(query):
                return await self._watch(request, resource, target, query, form)
            case "GET":
                return await self._list(request, resource, target.namespace, query, form, caller)
            case "POST" if resource.namespaced == (target.namespace is not None):
                return self._create(request, resource, target, _decode(request, body), form)
            case "DELETE" if resource.namespaced == (target.namespace is not None):
                options = delete_options(query, _decode(request, body) if body else {})
                selectors = chosen(query, resource.selectable)
                gone = self._api.delete_collection(resource, Selection(target.namespace, selectors), options)
                metadata: JsonObject = {"resourceVersion": str(self._api.store.revision)}
                return _formed(encode_list(resource, metadata, gone), resource, form, query)
        raise method_not_allowed()

    async def _list(
        self,
        request: web.BaseRequest,
        resource: Resource,
        namespace: str | None,
        query: Mapping[str, str],
        form: Form,
        caller: Caller | None,
    ) -> web.StreamResponse:
        options = parse_list(query, resource.selectable)
        if caller is not None and (options.exact or options.proceed):
            self._faults.forget_the_past(caller)
        response = _formed(list_body(self._api.store, resource, namespace, options), resource, form, query)
        if caller is not None:
            whole = response.body
            assert isinstance(whole, bytes)
            part = self._faults.shorten(caller, whole)
            if part is not None:
                return await _torn(request, part, len(whole))
        return response

    def _create(
        self, request: web.BaseRequest, resource: Resource, target: Target, decoded: Any, form: Form
    ) -> web.Response:
        query, warnings = _query(request), list[str]()
        options, _ = _write_options(request, query, "CreateOptions", warnings)
        raw = self._api.create(resource, target.namespace or "", decoded, options)
        return _warned(_formed(raw, resource, form, query, 201), warnings)

    def _object(self, request: web.BaseRequest, resource: Resource, target: Target, body: bytes) -> web.Response:
        namespace, name = target.namespace or "", target.name or ""
        query = _query(request)
        form = _form(request, resource)
        status = target.subresource == "status"
        warnings: list[str] = []
        code = 200
        match request.method:
            case "GET":
                raw = self._api.get(resource, namespace, name).raw
            case "PUT":
                options, _ = _write_options(request, query, "UpdateOptions", warnings)
                raw = self._api.replace(resource, namespace, name, _decode(request, body), options, status=status)
            case "PATCH" if request.content_type == APPLY:
                options, force = _write_options(request, query, "PatchOptions", warnings)
                config = decode_yaml(body)
                raw, new = self._api.apply(resource, namespace, name, config, options, force=force, status=status)
                code = 201 if new else 200
            case "PATCH":
                options, _ = _write_options(request, query, "PatchOptions", warnings)
                kind, patch = request.content_type, decode_json(body)
                raw = self._api.patch(resource, namespace, name, kind, patch, options, status=status)
            case "DELETE" if not status:
                deleting = delete_options(query, _decode(request, body) if body else {})
                raw = self._api.delete(resource, namespace, name, deleting)
            case _:
                raise method_not_allowed()
        return _warned(_formed(raw, resource, form, query, code), warnings)

    async def _watch(
        self, request: web.BaseRequest, resource: Resource, target: Target, query: Mapping[str, str], form: Form
    ) -> web.StreamResponse:
        """Errors found once the parameters are sound are events of a successful stream, as upstream."""
        options = parse_watch(query, resource.selectable)
        present = None if form == "json" else _presenter(resource, form, query)
        response = web.StreamResponse(headers={"Content-Type": _JSON, "Cache-Control": "no-cache, private"})
        await response.prepare(request)
        caller = self._caller(request, target)
        try:
            if options.since is not None:
                self._faults.forget_the_past(caller)
            stream = self._hub.open(resource, target.namespace, options)
        except ApiError as error:
            await response.write(error_line(error))
            return response
        transport = request.transport
        stream.on_cut = transport.abort if transport is not None else lambda: None
        try:
            with self._faults.watching(viewer := Viewer(caller, stream, transport)):
                if self._faults.active and options.initial and await self._tear(request, response, viewer):
                    return response
                async for chunk in stream.chunks():
                    if self._faults.active:
                        chunk = await self._faults.disturb(viewer, chunk)  # noqa: PLW2901
                    await response.write(present.frames(chunk) if present else chunk)
        except ClientConnectionResetError:
            # The client went away between two chunks; aiohttp wants the response back all the same.
            return response
        finally:
            stream.close()
        return response

    async def _tear(self, request: web.BaseRequest, response: web.StreamResponse, viewer: Viewer) -> bool:
        """Where a fault wants it: send a part of the initial events, then break the connection."""
        state = viewer.stream.peek_state()
        part = self._faults.shorten(viewer.caller, state)
        if part is None:
            return False
        await response.write(part)
        if request.transport is not None:
            request.transport.close()
        return True


def make_server(handler: Handler) -> web.Server:
    """An aiohttp server around `handler`: no access log, handlers end when their client goes."""
    loop = asyncio.get_running_loop()

    def make_request(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)

    return web.Server(
        handler,
        request_factory=make_request,
        handler_cancellation=True,
        access_log=None,
        logger=_LOGGER,
        keepalive_timeout=IDLE_SECONDS,
        max_line_size=64 * 1024,
    )


def _json(body: bytes, code: int = 200) -> web.Response:
    return web.Response(body=body, status=code, headers={"Content-Type": _JSON})


def _failure(error: ApiError) -> web.Response:
    response = _json(orjson.dumps(error.status()), error.code)
    if seconds := (error.details or {}).get("retryAfterSeconds"):
        response.headers["Retry-After"] = str(seconds)
    return response


def _document(request: web.BaseRequest, content: JsonObject, form: Form) -> web.Response:
    if request.method != "GET":
        raise method_not_allowed()
    choose(_accept(request), (form,))
    return web.Response(body=orjson.dumps(content), headers={"Content-Type": CONTENT_TYPES[form], "Vary": "Accept"})


def _accept(request: web.BaseRequest) -> str:
    return request.headers.get("Accept", "*/*")


def _form(request: web.BaseRequest, resource: Resource) -> Form:
    """The form of an answer about `resource`. Raises ApiError 406 where none will do."""
    return choose(_accept(request), _PRINTED if resource.printed else _NOT_PRINTED)


_PRINTED: tuple[Form, ...] = ("json", "table", "metadata")
_NOT_PRINTED: tuple[Form, ...] = ("json", "metadata")


def _formed(raw: bytes, resource: Resource, form: Form, query: Mapping[str, str], code: int = 200) -> web.Response:
    if form != "json":
        from clusters.apiserver import tables

        raw = tables.as_form(resource, form, raw, tables.include_object(query))
    return _json(raw, code)


def _presenter(resource: Resource, form: Form, query: Mapping[str, str]) -> "Presenter":
    from clusters.apiserver import tables

    return tables.Presenter(resource, form, tables.include_object(query))


def _warned(response: web.Response, warnings: list[str]) -> web.Response:
    for warning in warnings:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def _broken(request: web.BaseRequest) -> web.StreamResponse:
    """No answer: the connection ends here."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _torn(request: web.BaseRequest, part: bytes, promised: int) -> web.StreamResponse:
    """A response whose connection ends before the promised length."""
    response = web.StreamResponse(headers={"Content-Type": _JSON, "Content-Length": str(promised)})
    await response.prepare(request)
    await response.write(part)
    if request.transport is not None:
        request.transport.close()
    return response


def _query(request: web.BaseRequest) -> Mapping[str, str]:
    return request.query if request.query_string else {}


def _decode(request: web.BaseRequest, body: bytes) -> Any:
    return decode(request.content_type if request.headers.get("Content-Type") else None, body)


def _write_options(
    request: web.BaseRequest, query: Mapping[str, str], kind: str, warnings: list[str]
) -> tuple[WriteOptions, bool]:
    """How to write, and whether an apply takes fields over. `warnings` collects what the client is to be told."""
    asked = parse_write(query, kind, applies=kind == "PatchOptions" and request.content_type == APPLY)
    # Clients that name no manager are known by the first word of their User-Agent.
    manager = asked.manager or request.headers.get("User-Agent", "").partition("/")[0][:128] or "unknown"
    warn = warnings.append if asked.validation != "Ignore" else _ignore
    return WriteOptions(asked.dry_run, manager, asked.validation == "Strict", warn), asked.force


def _ignore(_: str) -> None:
    pass
