/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decision about a new flow, from the packet's addresses and the configuration alone: nothing here looks at
 * routes or sockets, or changes anything but a scheduler's turn. It is the part that the oracle asks.
 */
#ifndef PLUMBLINE_DECIDE_H
#define PLUMBLINE_DECIDE_H

#include "choose.h"

/* Who sends, as far as it matters. */
enum client {
	OTHER_CLIENT, /* outside, another node, or a pod there */
	POD_HERE,
	PROCESS_HERE,
};

INLINE const struct frontend *find_frontend(const struct config *settings, enum place place, const struct headers *h,
					    __u32 *address_flags)
{
	const struct tuple *tuple = &h->tuple;
	struct frontend_key key = { tuple->destination, tuple->destination_port, tuple->protocol, h->family };
	const struct frontend *frontend;
	const __u32 *flags;

	/* "::" is nobody's address (RFC 4291, 2.5.2), and must not be taken for the key of a node port. */
	if (is_unspecified(&tuple->destination))
		return NULL;
	frontend = map_lookup(&frontends, &key);
	/* A virtual IP before a node port: an external IP may be a node's own address. */
	if (frontend)
		return frontend;
	flags = map_lookup(&addresses, &tuple->destination);
	if (flags)
		*address_flags = *flags;
	else if (place == GOES_OUT && settings->flags & LOCALHOST_NODE_PORTS && is_ipv4_loopback(&tuple->destination))
		*address_flags = ON_NODE | SERVES_NODE_PORTS;
	/* A process of the node may talk to others from a port that is a node port too, and what comes back belongs to
	 * it. (The controller keeps the kernel from choosing such ports: of a datagram nobody could tell.) */
	if (!(*address_flags & SERVES_NODE_PORTS) || is_midstream(h))
		return NULL;
	key.address = (struct address){};
	return map_lookup(&frontends, &key);
}

/* Whether the local detector takes the sender for a pod (https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/). */
INLINE bool detected_as_pod(const struct config *settings, __u32 device, const struct address *source)
{
	struct pod_range_key key = { 128, *source };

	if (settings->flags & DETECT_BY_INTERFACE)
		return device & TOWARDS_PODS;
	return map_lookup(&pod_ranges, &key);
}

INLINE bool has_detector(const struct config *settings, __u8 family)
{
	return settings->flags & (family == 4 ? DETECTS_IPV4 : DETECTS_IPV6);
}

INLINE bool in_source_ranges(__u32 set, const struct address *source)
{
	struct range_key key = { 32 + 128, set, *source };

	return map_lookup(&source_ranges, &key);
}

/* Under which a client is remembered. */
INLINE void key_of_affinity(const struct address *client, __u32 service_port, struct affinity_key *key)
{
	key->client = *client;
	key->service_port = service_port;
}

/* The endpoint that the client was with, if it still is one of those allowed. */
INLINE __u32 remembered(const struct frontend *frontend, const struct address *client, __u32 membership, __u64 now)
{
	const struct affinity *affinity;
	struct affinity_key key;

	key_of_affinity(client, frontend->service_port, &key);
	affinity = map_lookup(&affinities, &key);
	if (!affinity || affinity->expires <= now ||
	    !is_current(affinity->endpoint, affinity->generation, membership))
		return NO_ENDPOINT;
	return affinity->endpoint;
}

/*
 * Service semantics, top to bottom. The verdict comes empty, without an endpoint.
 *
 * 1. A load balancer's IP is only for its source ranges; nothing else is.
 * 2. No usable endpoint anywhere: refused, at every kind of frontend.
 * 3. A ClusterIP obeys internalTrafficPolicy. Masqueraded is what does not come from pods, if pods can be told.
 * 4. Everything else obeys externalTrafficPolicy. Under Cluster it is masqueraded; under Local it keeps its source and
 *    stays on this node, except for traffic of this node itself, which stands for a trip to the load balancer and back
 *    and may go anywhere.
 * 5. A Local policy without an endpoint here drops, so that a load balancer's client notices a wrong turn by silence.
 * 6. What returns to its own sender is masqueraded, or the reply would never pass here.
 */
INLINE void decide(struct work *w, const struct config *settings)
{
	const struct headers *h = &w->packet.outer;
	const struct tuple *tuple = &h->tuple;
	const enum place place = w->place;
	const __u32 device = w->device;
	struct verdict *v = &w->verdict;
	const struct address *node = h->family == 4 ? &settings->node_ipv4 : &settings->node_ipv6;
	const struct frontend *frontend;
	const struct endpoint *endpoint;
	__u32 membership = IN_CLUSTER;
	enum client client = OTHER_CLIENT;
	bool detected, masquerade, local = false;

	v->client = tuple->source;
	v->client_port = tuple->source_port;
	w->destination_flags = w->affinity_seconds = 0;
	frontend = find_frontend(settings, place, h, &w->destination_flags);
	if (!frontend) {
		if (w->destination_flags & IS_CLUSTER_IP) {
			v->outcome = REFUSED;
			v->egress = BACK;
		}
		return;
	}
	v->kind = frontend->kind;
	v->flags = frontend->flags;
	v->service_port = frontend->service_port;
	if (frontend->flags & RESTRICTED && !in_source_ranges(frontend->source_ranges, &tuple->source)) {
		v->outcome = DROPPED;
		v->reason = DROPPED_SOURCE_RANGES;
		return;
	}
	if (!frontend->cluster.count) {
		v->outcome = REFUSED;
		v->egress = BACK;
		return;
	}

	detected = place == COMES_IN && detected_as_pod(settings, device, &tuple->source);
	if (place == GOES_OUT)
		client = PROCESS_HERE;
	else if (detected && !(device & UPLINK))
		client = POD_HERE;

	if (frontend->kind == CLUSTER_IP) {
		local = frontend->flags & INTERNAL_LOCAL;
		masquerade = settings->flags & MASQUERADE_ALL || (has_detector(settings, h->family) && !detected);
		v->reason = DROPPED_INTERNAL_LOCAL;
	} else if (!(frontend->flags & EXTERNAL_LOCAL)) {
		masquerade = true;
	} else {
		local = client == OTHER_CLIENT;
		masquerade = client == PROCESS_HERE;
		v->reason = DROPPED_EXTERNAL_LOCAL;
	}
	v->allowed = local ? frontend->local : frontend->cluster;
	if (local)
		membership = IN_LOCAL;
	if (!v->allowed.count) {
		v->outcome = DROPPED;
		return;
	}

	v->reason = 0;
	if (frontend->flags & CLIENT_AFFINITY && !(settings->flags & STATELESS)) {
		w->affinity_seconds = frontend->affinity_seconds;
		v->endpoint = remembered(frontend, &tuple->source, membership, w->now);
		v->by_affinity = v->endpoint != NO_ENDPOINT;
	}
	if (v->endpoint == NO_ENDPOINT)
		v->endpoint = choose(frontend, &v->allowed, tuple);
	endpoint = map_lookup(&endpoints, &v->endpoint);
	if (!endpoint) {
		v->outcome = DROPPED;
		v->reason = DROPPED_INCONSISTENT;
		return;
	}
	v->outcome = ANSWERED_BY;
	v->egress = endpoint->flags & ON_HOST ? TO_THE_NODE : ONWARDS;
	if (same_address(&endpoint->address, &tuple->source))
		masquerade = true;
	/* A process of this node is here to translate the reply itself; and with the node's own address as its source,
	 * a packet from elsewhere would be taken for a forged one. */
	if (endpoint->flags & ON_HOST && client != PROCESS_HERE)
		masquerade = false;
	/* A process that already goes by that address has nothing to hide. */
	if (client == PROCESS_HERE && same_address(&tuple->source, node))
		masquerade = false;
	/* A source on the node's loopback is nothing that an endpoint could answer. */
	if (client == PROCESS_HERE && is_ipv4_loopback(&tuple->source))
		masquerade = true;
	if (masquerade) {
		v->source = MASQUERADED;
		v->client = *node;
		v->client_port = 0; /* any of those set aside */
	}
}

#endif
