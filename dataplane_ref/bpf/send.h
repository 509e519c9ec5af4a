/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sending on. What comes in may simply go on through the stack, which routes it by its new addresses, or straight to
 * the next interface. What goes out has been routed already, by addresses that it no longer has, and is put on its
 * way here. The way is chosen before the packet is rewritten: who goes straight has a hop less to live.
 */
#ifndef PLUMBLINE_SEND_H
#define PLUMBLINE_SEND_H

#include "flows.h"
#include "rewrite.h"

/* The same numbers in TCX and in tc's direct action (TCX_…, TC_ACT_…). */
#define NEXT -1 /* let other programs, and then the stack, have it */
#define PASS 0
#define DROP 2

#define AF_INET 2
#define AF_INET6 10

enum way {
	BY_STACK, /* whatever comes next here routes it */
	TO_PROCESS, /* in by lo */
	STRAIGHT_ON, /* out by the interface that the flow remembers, to the MAC that it remembers */
	STRAIGHT_INTO_POD, /* … and in at its other end */
	BY_NEIGHBOUR, /* out by that interface, once the kernel knows the MAC */
	NO_WAY,
};

INLINE int drop(__u32 reason)
{
	count(reason);
	return DROP;
}

/*
 * Ask the kernel for the way, as for a packet that came in by interface `from`, and let the flow remember it. Returns
 * the answer's code (BPF_FIB_LKUP_RET_…).
 */
GLOBAL long find_way(struct __sk_buff *ctx, const struct config *settings, const struct headers *h, struct flow *flow,
		     __u32 from)
{
	struct bpf_fib_lookup way = {};
	const __u32 *device;
	long answer;
	__u32 ifindex;

	if (!settings || !h || !flow)
		return -1;
	way.family = h->family == 4 ? AF_INET : AF_INET6;
	way.l4_protocol = h->tuple.protocol;
	way.tot_len = 1; /* fits anywhere: asked for is how much would */
	way.ifindex = from;
	if (h->family == 4) {
		way.ipv4_src = flow->source.words[3];
		way.ipv4_dst = flow->destination.words[3];
	} else {
		__builtin_memcpy(way.ipv6_src, &flow->source, sizeof(flow->source));
		__builtin_memcpy(way.ipv6_dst, &flow->destination, sizeof(flow->destination));
	}
	answer = fib_lookup(ctx, &way, sizeof(way), 0);
	if (answer != BPF_FIB_LKUP_RET_SUCCESS && answer != BPF_FIB_LKUP_RET_NO_NEIGH)
		return answer;
	flow->ifindex = ifindex = way.ifindex;
	flow->mtu = way.mtu_result;
	flow->flags &= ~(INTO_POD | BY_UPLINK);
	device = map_lookup(&devices, &ifindex);
	if (device)
		flow->flags |= (*device & PEER_IS_POD ? INTO_POD : 0) | (*device & UPLINK ? BY_UPLINK : 0);
	if (answer == BPF_FIB_LKUP_RET_SUCCESS) {
		__builtin_memcpy(flow->destination_mac, way.dmac, 6);
		__builtin_memcpy(flow->source_mac, way.smac, 6);
		flow->epoch = settings->epoch;
	}
	return answer;
}

/* Whether the packet, or each part that it will be cut into, fits the way. */
INLINE bool fits(struct __sk_buff *ctx, const struct headers *h, const struct flow *flow)
{
	__u32 transport = 8;
	__u8 offset;

	if (!ctx->gso_size)
		return h->l4 - h->l3 + h->l4_length <= flow->mtu;
	if (h->tuple.protocol == PROTOCOL_TCP) {
		if (skb_load(ctx, h->l4 + TCP_OFFSET, &offset, sizeof(offset)))
			return false;
		transport = (offset >> 4) * 4;
	}
	return h->l4 - h->l3 + transport + ctx->gso_size <= flow->mtu;
}

/* In, and on. Whatever is not plain sailing (no neighbour yet, too long, TTL at its end) is left to the stack. */
INLINE enum way way_of_incoming(struct __sk_buff *ctx, const struct config *settings, const struct headers *h,
				struct flow *flow)
{
	if (flow->flags & TO_HOST)
		return flow->flags & FROM_HOST ? TO_PROCESS : BY_STACK;
	if (!(settings->flags & STRAIGHT) || h->ttl <= 1)
		return BY_STACK;
	if (flow->epoch != settings->epoch &&
	    find_way(ctx, settings, h, flow, ctx->ifindex) != BPF_FIB_LKUP_RET_SUCCESS)
		return BY_STACK;
	if (!fits(ctx, h, flow))
		return BY_STACK;
	return flow->flags & INTO_POD ? STRAIGHT_INTO_POD : STRAIGHT_ON;
}

/* Out of a process of this node, and on its way by its new addresses. It has not been forwarded: no hop is counted. */
INLINE enum way way_of_outgoing(struct __sk_buff *ctx, const struct config *settings, const struct headers *h,
				struct flow *flow)
{
	long answer;

	/* The answer of one process of this node to another is on lo already. */
	if (flow->flags & TO_HOST)
		return ctx->ifindex == settings->loopback && flow->flags & REPLY ? BY_STACK : TO_PROCESS;
	if (same_address(&flow->destination, &h->tuple.destination))
		return BY_STACK;
	if (flow->epoch == settings->epoch)
		return STRAIGHT_ON;
	answer = find_way(ctx, settings, h, flow, settings->loopback);
	if (answer == BPF_FIB_LKUP_RET_NO_NEIGH)
		return BY_NEIGHBOUR;
	return answer == BPF_FIB_LKUP_RET_SUCCESS ? STRAIGHT_ON : NO_WAY;
}

INLINE bool is_straight(enum way way)
{
	return way == STRAIGHT_ON || way == STRAIGHT_INTO_POD;
}

INLINE long write_macs(struct __sk_buff *ctx, const struct flow *flow)
{
	__u8 macs[12];

	__builtin_memcpy(macs, flow->destination_mac, 6);
	__builtin_memcpy(macs + 6, flow->source_mac, 6);
	return skb_store(ctx, 0, macs, sizeof(macs), 0);
}

/*
 * To a process of this node, past routing checks that a packet between two of the node's own addresses would not stand
 * anywhere else: in by lo, addressed to its MAC (zeros), so that the stack takes it for its own.
 */
INLINE int to_process(struct __sk_buff *ctx, const struct config *settings)
{
	const __u8 macs[12] = {};

	if (skb_store(ctx, 0, macs, sizeof(macs), 0))
		return drop(DROPPED_REWRITE);
	add_mark(ctx, settings->mark);
	return redirect(settings->loopback, BPF_F_INGRESS);
}

/* The rewritten packet on its way; no other hook of this node shall look at it again. */
INLINE int take(struct __sk_buff *ctx, const struct config *settings, const struct flow *flow, enum way way)
{
	const __u32 ifindex = flow->ifindex;

	/* Marks end where packets leave the node's namespace, but for this way. */
	if (way == STRAIGHT_INTO_POD)
		return redirect_peer(ifindex, 0);
	add_mark(ctx, settings->mark);
	switch (way) {
	case BY_STACK:
		return PASS;
	case STRAIGHT_ON:
		return redirect(ifindex, 0);
	case BY_NEIGHBOUR:
		return redirect_neigh(ifindex, NULL, 0, 0);
	case TO_PROCESS:
		return to_process(ctx, settings);
	default:
		return drop(DROPPED_NO_ROUTE);
	}
}

#endif
