# SPDX-License-Identifier: Apache-2.0
"""An embedded Kubernetes API server: a generic JSON store with the Service semantics a dataplane depends on.

It runs as its own process (`python -m clusters.apiserver`) on sockets it inherits, so that it can listen on the
loopback of every simulated node at once. From the bottom up:

    status, kinds, selectors, patches     vocabulary: error bodies, resource table, selector and patch languages
    fields, shapes, names                 which fields there are, what they hold, what things may be called
    store                                 objects as encoded bytes, one growing revision, a bounded history
    strategies, services, endpointslices  what single resources add: defaults, validation, allocation
    api                                   create, update, patch, delete: the rules common to every resource
    watch                                 the history turned into streams, encoded once for all watchers
    bootstrap                             a store as a new cluster has it
    faults                                misbehaviour on purpose
    discovery, openapi, tables            what it says of itself, and objects as people read them
    http, serving                         paths, tokens, content types

docs/apiserver.md says what all of it promises; tests/apiserver/contract/ holds it to that, and to a real server.

Only `watch`, `faults` and what is below them here know asyncio; the rest can be tested without a socket.
"""
