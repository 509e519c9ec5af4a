/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sending on what was rewritten. What comes in may simply go on through the stack, which now routes it by its new
 * addresses, or straight to the next interface. What goes out has been routed already, by addresses that it no longer
 * has, and must be put on its way here.
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

INLINE int drop(__u32 reason)
{
	count(reason);
	return DROP;
}

/* Let it go on, and no other hook of this node look at it again. */
INLINE int pass_marked(struct __sk_buff *ctx, const struct config *settings)
{
	add_mark(ctx, settings->mark);
	return PASS;
}

/*
 * To a process of this node, past routing checks that a packet between two of the node's own addresses would not stand
 * anywhere else: in by lo, addressed to its MAC (zeros), so that the stack takes it for its own.
 */
INLINE int to_own_process(struct __sk_buff *ctx, const struct config *settings)
{
	const __u8 macs[12] = {};

	if (skb_store(ctx, 0, macs, sizeof(macs), 0))
		return drop(DROPPED_REWRITE);
	add_mark(ctx, settings->mark);
	return redirect(settings->loopback, BPF_F_INGRESS);
}

/* Ask the kernel for the way, and let the flow remember it. Returns the answer's code (BPF_FIB_LKUP_RET_…). */
GLOBAL long find_way(struct __sk_buff *ctx, const struct config *settings, const struct headers *h, struct flow *flow,
		     __u32 from)
{
	struct bpf_fib_lookup way = {};
	long answer;

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
	if (answer == BPF_FIB_LKUP_RET_SUCCESS || answer == BPF_FIB_LKUP_RET_NO_NEIGH) {
		flow->ifindex = way.ifindex;
		flow->mtu = way.mtu_result;
	}
	if (answer == BPF_FIB_LKUP_RET_SUCCESS) {
		__builtin_memcpy(flow->destination_mac, way.dmac, 6);
		__builtin_memcpy(flow->source_mac, way.smac, 6);
		flow->epoch = settings->epoch;
	}
	return answer;
}

/* Whether the packet, or each part that it will be cut into (64 bytes allow for any options), fits the way. */
INLINE bool fits(const struct __sk_buff *ctx, const struct headers *h, const struct flow *flow)
{
	const __u32 length = ctx->gso_size ? h->l4 - h->l3 + 64 + ctx->gso_size : h->l4 - h->l3 + h->l4_length;

	return length <= flow->mtu;
}

INLINE long write_macs(struct __sk_buff *ctx, const struct flow *flow)
{
	__u8 macs[12];

	__builtin_memcpy(macs, flow->destination_mac, 6);
	__builtin_memcpy(macs + 6, flow->source_mac, 6);
	return skb_store(ctx, 0, macs, sizeof(macs), 0);
}

/* In, and on. Whatever is not plain sailing (no neighbour yet, too long, TTL at its end) is left to the stack. */
INLINE int send_incoming(struct __sk_buff *ctx, const struct config *settings, const struct headers *h,
			 struct flow *flow)
{
	const __u32 *device;
	__u32 ifindex;

	if (flow->flags & TO_HOST)
		return flow->flags & FROM_HOST ? to_own_process(ctx, settings) : pass_marked(ctx, settings);
	if (!(settings->flags & STRAIGHT) || h->ttl <= 1)
		return pass_marked(ctx, settings);
	if (flow->epoch != settings->epoch &&
	    find_way(ctx, settings, h, flow, ctx->ifindex) != BPF_FIB_LKUP_RET_SUCCESS)
		return pass_marked(ctx, settings);
	if (!fits(ctx, h, flow))
		return pass_marked(ctx, settings);
	if (count_hop(ctx, false, h) || write_macs(ctx, flow))
		return drop(DROPPED_REWRITE);
	ifindex = flow->ifindex;
	device = map_lookup(&devices, &ifindex);
	if (device && *device & PEER_IS_POD)
		return redirect_peer(ifindex, 0);
	add_mark(ctx, settings->mark);
	return redirect(ifindex, 0);
}

/* Out of a process of this node, and on its way by its new addresses. */
INLINE int send_outgoing(struct __sk_buff *ctx, const struct config *settings, const struct headers *h,
			 struct flow *flow)
{
	long answer;

	if (flow->flags & TO_HOST) {
		/* The answer of one process of this node to another is on lo already. */
		if (ctx->ifindex == settings->loopback && flow->flags & REPLY)
			return pass_marked(ctx, settings);
		return to_own_process(ctx, settings);
	}
	if (same_address(&flow->destination, &h->tuple.destination))
		return pass_marked(ctx, settings);
	add_mark(ctx, settings->mark);
	if (flow->epoch == settings->epoch) {
		answer = BPF_FIB_LKUP_RET_SUCCESS;
	} else {
		answer = find_way(ctx, settings, h, flow, settings->loopback);
	}
	if (answer == BPF_FIB_LKUP_RET_NO_NEIGH)
		return redirect_neigh(flow->ifindex, NULL, 0, 0);
	if (answer != BPF_FIB_LKUP_RET_SUCCESS)
		return drop(DROPPED_NO_ROUTE);
	if (write_macs(ctx, flow))
		return drop(DROPPED_REWRITE);
	return flow->ifindex == ctx->ifindex ? PASS : redirect(flow->ifindex, 0);
}

#endif
