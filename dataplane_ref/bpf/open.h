/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Making a decision lasting: the two entries of a new flow, its source port where it is masqueraded, its affinity. */
#ifndef PLUMBLINE_OPEN_H
#define PLUMBLINE_OPEN_H

#include "decide.h"
#include "rewrite.h"

/* A client stays with an endpoint for so long after its last new connection (Service API, sessionAffinityConfig). */
GLOBAL int remember(const struct work *w, __u32 generation)
{
	struct affinity_key key;
	struct affinity value;

	if (!w)
		return 0;
	key_of_affinity(&w->packet.outer.tuple.source, w->verdict.service_port, &key);
	value.expires = w->now + w->affinity_seconds * 1000000000ULL;
	value.endpoint = w->verdict.endpoint;
	value.generation = generation;
	if (map_update(&affinities, &key, &value, BPF_ANY))
		count(AFFINITY_FULL);
	return 0;
}

/* Whether a node's own process is at the rewritten end of a packet: such packets take another way in. */
INLINE bool is_on_node(const struct address *address)
{
	const __u32 *flags = map_lookup(&addresses, address);

	return (flags && *flags & ON_NODE) || is_ipv4_loopback(address);
}

/* The entry for the endpoint's packets, under a source port that nobody else has there. */
GLOBAL long claim_reply(struct work *w, const struct config *settings, bool masqueraded)
{
	long error = -EEXIST;
	__u32 port, ports;

	if (!w || !settings)
		return -1;
	ports = settings->masquerade_last - settings->masquerade_first + 1;
	work_out_changes(&w->reply_key, w->packet.outer.family, &w->reply);
	if (!masqueraded)
		error = claim(&w->reply_key, &w->reply, w->now);
	if (error != -EEXIST)
		return error;
	/* Somebody else talks to this endpoint from that port, or the node's ports are to be used anyway. */
	port = random_u32();
	for (int i = 0; i < MASQUERADE_ATTEMPTS; i++) {
		w->reply_key.destination_port = htons(settings->masquerade_first + (port + i * 7919) % ports);
		work_out_changes(&w->reply_key, w->packet.outer.family, &w->reply);
		error = claim(&w->reply_key, &w->reply, w->now);
		if (error != -EEXIST)
			return error;
	}
	return error;
}

/*
 * A packet past all Services may look, to the endpoint it goes to, like one of a flow that was sent there: same client,
 * same ports. Then the endpoint's answers would be taken for that flow's. If that one is over, it is forgotten; if it is
 * not, the newcomer gets another source port, as conntrack would give it. Returns 0 where nothing had to be done, -1
 * where there is no other port, and 1 where a flow is open.
 */
GLOBAL int keep_apart(struct work *w, const struct config *settings)
{
	const struct headers *h;
	struct flow *flow, *reply, *there;
	struct tuple *key;

	if (!w || !settings)
		return 0;
	h = &w->packet.outer;
	key = &w->reply_key;
	flow = &w->flow;
	reply = &w->reply;
	if (is_midstream(h))
		return 0;
	key->source = h->tuple.destination;
	key->source_port = h->tuple.destination_port;
	key->destination = h->tuple.source;
	key->destination_port = h->tuple.source_port;
	key->protocol = h->tuple.protocol;
	there = map_lookup(&flows, key);
	if (!there || !(there->flags & REPLY))
		return 0;
	if (there->expires <= w->now || there->flags & (CLOSED | PEER_FINISHED)) {
		forget(key, there);
		return 0;
	}
	reply->source = key->source;
	reply->source_port = key->source_port;
	reply->destination = key->destination;
	reply->destination_port = key->destination_port;
	reply->endpoint = NO_ENDPOINT;
	reply->generation = 0;
	reply->flags = REPLY | (w->place == GOES_OUT ? TO_HOST : 0);
	reply->expires = w->now + lifetime(settings, h->tuple.protocol, 0);
	reply->refreshed = w->now;
	reply->epoch = settings->epoch - 1;
	if (claim_reply(w, settings, true))
		return -1;
	*flow = *reply;
	flow->source = key->destination;
	flow->source_port = key->destination_port;
	flow->destination = key->source;
	flow->destination_port = key->source_port;
	flow->flags = w->place == GOES_OUT ? FROM_HOST : 0;
	work_out_changes(&h->tuple, h->family, flow);
	if (!map_update(&flows, &h->tuple, flow, BPF_ANY))
		return 1;
	map_delete(&flows, key);
	return -1;
}

/*
 * Open the flow that was decided on: `w->flow` becomes the client's entry. Returns 0, or the counter of the reason why
 * it could not be opened; then there is no trace of it.
 */
GLOBAL __u32 open_flow(struct work *w, const struct config *settings)
{
	const struct endpoint *endpoint;
	const struct headers *h;
	struct flow *flow, *reply;
	struct verdict *v;
	struct tuple *key;
	long error;

	if (!w || !settings)
		return DROPPED_INCONSISTENT;
	h = &w->packet.outer;
	v = &w->verdict;
	flow = &w->flow;
	reply = &w->reply;
	key = &w->reply_key;
	endpoint = map_lookup(&endpoints, &v->endpoint);
	if (!endpoint)
		return DROPPED_INCONSISTENT;
	reply->source = h->tuple.destination;
	reply->source_port = h->tuple.destination_port;
	reply->destination = h->tuple.source;
	reply->destination_port = h->tuple.source_port;
	reply->endpoint = v->endpoint;
	reply->generation = endpoint->generation;
	reply->flags = REPLY | (w->place == GOES_OUT ? TO_HOST : 0) | (is_on_node(&reply->source) ? FROM_HOST : 0);
	reply->expires = w->now + lifetime(settings, h->tuple.protocol, 0);
	reply->refreshed = w->now;
	reply->epoch = settings->epoch - 1;

	key->source = endpoint->address;
	key->source_port = endpoint->port;
	key->destination = v->client;
	key->destination_port = v->client_port;
	key->protocol = h->tuple.protocol;
	error = claim_reply(w, settings, v->source == MASQUERADED);
	if (error == -EEXIST && v->source != MASQUERADED) {
		/* The node's own port instead of the clashing one: the flow is masqueraded after all. */
		v->source = MASQUERADED;
		v->client = h->family == 4 ? settings->node_ipv4 : settings->node_ipv6;
		key->destination = v->client;
		error = claim_reply(w, settings, true);
	}
	if (error)
		return error == -EEXIST ? DROPPED_NO_PORT : DROPPED_FLOWS_FULL;

	flow->source = key->destination;
	flow->source_port = key->destination_port;
	flow->destination = key->source;
	flow->destination_port = key->source_port;
	flow->flags = COUNTED | (endpoint->flags & ON_HOST ? TO_HOST : 0) |
		      (w->place == GOES_OUT || is_on_node(&flow->source) ? FROM_HOST : 0);
	flow->endpoint = v->endpoint;
	flow->generation = endpoint->generation;
	flow->expires = reply->expires;
	flow->refreshed = w->now;
	flow->epoch = reply->epoch;
	work_out_changes(&h->tuple, h->family, flow);
	if (map_update(&flows, &h->tuple, flow, BPF_ANY)) {
		map_delete(&flows, key);
		return DROPPED_FLOWS_FULL;
	}
	count_active(v->endpoint, endpoint->generation, 1);
	if (w->affinity_seconds)
		remember(w, endpoint->generation);
	count(FLOWS_OPENED);
	return 0;
}

#endif
