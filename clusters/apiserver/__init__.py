# SPDX-License-Identifier: Apache-2.0
"""An embedded Kubernetes API server: a generic JSON store with the Service semantics a dataplane depends on.

It runs as its own process (`python -m clusters.apiserver`) on sockets it inherits, so that it can listen on the
loopback of every simulated node at once. From the bottom up:

    status, kinds, selectors, patches     vocabulary: error bodies, resource table, selector and patch languages
    store                                 objects as encoded bytes, one growing revision, a bounded history
    strategies, services, endpointslices  what single resources add: defaults, validation, allocation
    api                                   create, update, patch, delete: the rules common to every resource
    watch                                 the history turned into streams, encoded once for all watchers
    bootstrap                             a store as a new cluster has it
    http, serving                         paths, tokens, content types

Only `watch`, `http` and `serving` know asyncio; everything below is synchronous and can be tested without a socket.
"""
