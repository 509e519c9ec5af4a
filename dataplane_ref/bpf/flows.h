/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows: what was decided once, kept for every later packet. Two entries per flow, keyed by what each direction's
 * packets look like when they reach the node: the client's, towards the frontend, and the endpoint's, towards the
 * client as the endpoint knows it.
 *
 * An entry past its time is as good as none; the controller has such entries collected.
 */
#ifndef PLUMBLINE_FLOWS_H
#define PLUMBLINE_FLOWS_H

#include "work.h"

/* How often at most a flow's time is set anew. */
#define REFRESH_NS 1000000000ULL
/* Source ports tried before masquerading is given up. */
#define MASQUERADE_ATTEMPTS 32

INLINE __u64 clock(const struct config *settings)
{
	return ticks() * settings->tick_ns;
}

INLINE void count(__u32 what)
{
	__u64 *counter = map_lookup(&counters, &what);

	if (counter)
		*counter += 1;
}

INLINE void key_of_reply(const struct flow *flow, __u8 protocol, struct tuple *key)
{
	key->source = flow->destination;
	key->destination = flow->source;
	key->source_port = flow->destination_port;
	key->destination_port = flow->source_port;
	key->protocol = protocol;
	__builtin_memset(key->reserved, 0, sizeof(key->reserved));
}

INLINE bool is_current(__u32 number, __u32 generation, __u32 flag)
{
	const struct endpoint *endpoint = map_lookup(&endpoints, &number);

	return endpoint && endpoint->generation == generation && endpoint->flags & flag;
}

INLINE void count_active(__u32 number, __u32 generation, __s32 change)
{
	struct endpoint_state *state = map_lookup(&endpoint_states, &number);

	if (!state)
		return;
	if (state->generation != generation) {
		if (change < 0)
			return;
		state->generation = generation;
		state->active = 0;
	}
	__sync_fetch_and_add(&state->active, change);
}

/* The flow no longer counts among its endpoint's active ones. Only the client's entry is counted. */
INLINE void stop_counting(struct flow *flow)
{
	if (flow->flags & COUNTED) {
		flow->flags &= ~COUNTED;
		count_active(flow->endpoint, flow->generation, -1);
	}
}

GLOBAL int forget(const struct tuple *key, struct flow *flow)
{
	struct tuple other;

	if (!key || !flow)
		return 0;

	key_of_reply(flow, key->protocol, &other);
	if (flow->flags & REPLY) {
		struct flow *client = map_lookup(&flows, &other);

		if (client)
			stop_counting(client);
	} else {
		stop_counting(flow);
	}
	map_delete(&flows, &other);
	map_delete(&flows, key);
	return 0;
}

INLINE __u64 lifetime(const struct config *config, __u8 protocol, __u32 flags)
{
	if (protocol != PROTOCOL_TCP)
		return flags & STREAM ? config->udp_stream_ns : config->udp_ns;
	if (flags & CLOSED)
		return config->tcp_closed_ns;
	if (flags & (FINISHED | PEER_FINISHED))
		return config->tcp_closing_ns;
	return flags & ANSWERED ? config->tcp_established_ns : config->tcp_opening_ns;
}

/*
 * Whether a packet of the client may go on as its flow says. UDP and SCTP flows end with their endpoint; TCP
 * connections stay with one that drains (nobody else could continue them), until they are closed and their ports are
 * used anew. One that was never answered is no connection yet, and its next attempt may try somebody else.
 */
INLINE bool goes_on(const struct headers *h, const struct flow *flow)
{
	if (flow->flags & REPLY || is_midstream(h))
		return true;
	if (h->tuple.protocol == PROTOCOL_TCP && flow->flags & (CLOSED | FINISHED))
		return false;
	if (h->tuple.protocol == PROTOCOL_TCP && flow->flags & ANSWERED)
		return true;
	if (flow->endpoint == NO_ENDPOINT || is_current(flow->endpoint, flow->generation, SERVING))
		return true;
	count(STALE_FLOWS);
	return false;
}

/* The flow of a packet, if it has one that goes on. One that does not is forgotten. */
INLINE struct flow *find_flow(const struct headers *h, __u64 now)
{
	struct flow *flow = map_lookup(&flows, &h->tuple);

	if (!flow)
		return NULL;
	if (likely(flow->expires > now) && goes_on(h, flow))
		return flow;
	forget(&h->tuple, flow);
	return NULL;
}

/* Tell the other direction's entry of what was seen in this one, and keep it alive as long. */
GLOBAL int tell_other(const struct tuple *key, struct flow *flow, __u64 now)
{
	const __u32 zero = 0;
	const struct config *settings = map_lookup(&config, &zero);
	struct tuple other_key;
	struct flow *other;

	if (!key || !flow || !settings)
		return 0;
	key_of_reply(flow, key->protocol, &other_key);
	other = map_lookup(&flows, &other_key);
	if (other) {
		other->flags |= flow->flags & (ANSWERED | CLOSED | STREAM);
		if (flow->flags & FINISHED)
			other->flags |= PEER_FINISHED;
		if (flow->flags & CLOSED)
			stop_counting(flow->flags & REPLY ? other : flow);
		other->expires = now + lifetime(settings, key->protocol, other->flags);
		other->refreshed = now;
	}
	flow->expires = now + lifetime(settings, key->protocol, flow->flags);
	flow->refreshed = now;
	return 0;
}

/* A packet of the flow was seen. */
INLINE void keep_alive(const struct headers *h, struct flow *flow, __u64 now)
{
	__u32 flags = flow->flags;

	if (flags & REPLY)
		flags |= ANSWERED;
	if (h->tuple.protocol == PROTOCOL_TCP && h->fragment != LATER_FRAGMENT) {
		if (h->tcp_flags & TCP_FIN)
			flags |= FINISHED;
		if (h->tcp_flags & TCP_RST || (flags & FINISHED && flags & PEER_FINISHED))
			flags |= CLOSED;
	}
	if (flags == flow->flags) {
		if (now - flow->refreshed < REFRESH_NS)
			return;
		if (flags & ANSWERED)
			flags |= STREAM;
	}
	flow->flags = flags;
	tell_other(&h->tuple, flow, now);
}

/*
 * Claim a key for an entry: nobody else's, unless that is past its time. The caller looks for another key if it is
 * taken (-EEXIST), and gives up if the table is full.
 */
#define EEXIST 17

GLOBAL long claim(const struct tuple *key, const struct flow *entry, __u64 now)
{
	struct flow *there;
	long error;

	if (!key || !entry)
		return -EEXIST;
	error = map_update(&flows, key, entry, BPF_NOEXIST);
	if (error != -EEXIST)
		return error;
	there = map_lookup(&flows, key);
	if (there && there->expires > now && !(there->flags & CLOSED))
		return -EEXIST;
	if (there)
		forget(key, there);
	return map_update(&flows, key, entry, BPF_NOEXIST);
}

#endif
