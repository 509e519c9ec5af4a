// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * plumbline's reference datapath: Kubernetes Services in eBPF. Read in this order:
 *
 *   types.h     what the controller writes, what is kept per flow, what is decided
 *   packet.h    reading a packet
 *   decide.h    which endpoint, if any, and whether the source is masqueraded;  choose.h: the schedulers
 *   open.h      making it last;  flows.h: what is kept, and for how long
 *   rewrite.h   changing the packet;  sctp.h: SCTP's checksum;  refuse.h: answering it
 *   send.h      sending it on
 *
 * and this page, which strings them together: a packet of a known flow is rewritten and sent on; of a new one, decided.
 */
#include "decide.h"
#include "enums.h"
#include "open.h"
#include "refuse.h"
#include "rewrite.h"
#include "send.h"
#include "work.h"

char licence[] SEC("license") = "Dual BSD/GPL";

/* Fragments of one packet arrive within the time that a host waits for them (RFC 8200, 4.5). */
#define FRAGMENT_NS 60000000000ULL

INLINE void key_of_fragment(const struct headers *h, struct fragment_key *key)
{
	key->source = h->tuple.source;
	key->destination = h->tuple.destination;
	key->identification = h->identification;
	key->protocol = h->tuple.protocol;
}

/* The ports that later fragments of this packet will need. */
GLOBAL int remember_fragment(const struct headers *h, __u64 now)
{
	struct fragment value = {};
	struct fragment_key key;

	if (!h)
		return 0;
	value.source_port = h->tuple.source_port;
	value.destination_port = h->tuple.destination_port;
	value.expires = now + FRAGMENT_NS;
	key_of_fragment(h, &key);
	map_update(&fragments, &key, &value, BPF_ANY);
	return 0;
}

/* Give a later fragment the ports of the first; false where they are not known. */
GLOBAL int recall_fragment(struct headers *h, __u64 now)
{
	const struct fragment *first;
	struct fragment_key key;

	if (!h)
		return false;
	key_of_fragment(h, &key);
	first = map_lookup(&fragments, &key);
	if (!first || first->expires <= now)
		return false;
	h->tuple.source_port = first->source_port;
	h->tuple.destination_port = first->destination_port;
	return true;
}

/*
 * A fragment whose first was not seen: for a virtual IP it cannot be sent on, and is dropped; for the node itself, or
 * past it, it may be anybody's.
 */
INLINE int lone_fragment(const struct headers *h)
{
	const __u32 *flags = map_lookup(&addresses, &h->tuple.destination);

	return flags && *flags & IS_VIRTUAL ? drop(DROPPED_FRAGMENT) : NEXT;
}

INLINE void record(const struct config *settings, struct verdict *v)
{
	const __u32 zero = 0;
	__u64 *made = map_lookup(&decisions, &zero);
	struct verdict *there;
	__u32 index;

	if (!(settings->flags & RECORD_VERDICTS) || !made)
		return;
	v->sequence = *made + 1;
	index = *made % settings->verdicts;
	there = map_lookup(&verdicts, &index);
	if (there)
		*there = *v;
	*made += 1;
}

INLINE void clear_verdict(struct verdict *v)
{
	__builtin_memset(v, 0, sizeof(*v));
	v->endpoint = NO_ENDPOINT;
}

GLOBAL int parse_slowly(struct __sk_buff *ctx, struct work *w)
{
	return !w ? OTHER_PACKET : parse(ctx, false, ntohs(ctx->protocol), &w->packet);
}

GLOBAL int decide_about(struct work *w, const struct config *settings)
{
	if (w && settings)
		decide(w, settings);
	return 0;
}

/* A packet that may not go on: its sender is told so by the way that it came. */
INLINE int tell_of_its_end(struct __sk_buff *ctx, const struct headers *h, const struct config *settings)
{
	if (make_error(ctx, h, settings, TIME_EXCEEDED))
		return drop(DROPPED_REWRITE);
	add_mark(ctx, settings->mark);
	return redirect(ctx->ifindex, 0);
}

/* Rewrite the packet as its flow says, and send it on. */
INLINE int carry_out(struct __sk_buff *ctx, const struct work *w, const struct config *settings, struct flow *flow)
{
	const struct headers *h;
	enum way way;
	bool hop;

	h = &w->packet.outer;
	/* The stack would tell whoever the packet says that it is from once it is rewritten. */
	if (w->place == COMES_IN && h->ttl <= 1 && !(flow->flags & TO_HOST) && h->fragment != LATER_FRAGMENT)
		return tell_of_its_end(ctx, h, settings);
	way = w->place == COMES_IN ? way_of_incoming(ctx, settings, h, flow)
				   : way_of_outgoing(ctx, settings, h, flow);
	hop = is_straight(way) && w->place == COMES_IN;
	if (h->plain ? rewrite_in_place(ctx, h, flow, hop, is_straight(way))
		     : rewrite(ctx, false, h, flow, hop) || (is_straight(way) && write_macs(ctx, flow)))
		return drop(DROPPED_REWRITE);
	return take(ctx, settings, flow, way);
}

/* A packet of a flow that there is. */
INLINE int follow(struct __sk_buff *ctx, struct work *w, const struct config *settings, struct flow *flow)
{
	const struct headers *h = &w->packet.outer;

	if (settings->flags & RECORD_VERDICTS) {
		clear_verdict(&w->verdict);
		w->verdict.outcome = FOLLOWED;
		w->verdict.endpoint = flow->endpoint;
		w->verdict.egress = flow->flags & TO_HOST ? TO_THE_NODE : ONWARDS;
		w->verdict.client = flow->source;
		w->verdict.client_port = flow->source_port;
		record(settings, &w->verdict);
	}
	if (settings->flags & ONLY_DECIDE)
		return NEXT;
	keep_alive(h, flow, w->now);
	if (h->fragment == FIRST_FRAGMENT) {
		if (h->tuple.protocol == PROTOCOL_SCTP)
			return drop(DROPPED_SCTP_FRAGMENT);
		remember_fragment(h, w->now);
	}
	return carry_out(ctx, w, settings, flow);
}

/* An ICMP error about a packet of a flow that there is: `was` is the direction that it travels in. */
GLOBAL int follow_error(struct __sk_buff *ctx, struct work *w, const struct config *settings)
{
	const struct headers *inner;
	struct tuple was = {};
	enum way way = BY_STACK;
	struct flow *flow;
	bool hop;

	if (!w || !settings)
		return NEXT;
	inner = &w->packet.inner;
	was.source = inner->tuple.destination;
	was.source_port = inner->tuple.destination_port;
	was.destination = inner->tuple.source;
	was.destination_port = inner->tuple.source_port;
	was.protocol = inner->tuple.protocol;
	flow = map_lookup(&flows, &was);
	if (!flow || flow->expires <= w->now)
		return NEXT;
	if (settings->flags & RECORD_VERDICTS) {
		clear_verdict(&w->verdict);
		w->verdict.outcome = TRANSLATED_ERROR;
		w->verdict.endpoint = flow->endpoint;
		record(settings, &w->verdict);
	}
	if (settings->flags & ONLY_DECIDE)
		return NEXT;
	/* An error is rare, and the stack knows how to send one. */
	if (w->place == GOES_OUT)
		way = way_of_outgoing(ctx, settings, &w->packet.outer, flow);
	else if (flow->flags & FROM_HOST)
		/* The stack takes a packet from elsewhere with the node's own address for a forged one. */
		way = way_of_incoming(ctx, settings, &w->packet.outer, flow);
	hop = is_straight(way) && w->place == COMES_IN;
	if (rewrite_error(ctx, false, &w->packet, &was, flow) || (hop && take_hop(ctx, &w->packet.outer)) ||
	    (is_straight(way) && write_macs(ctx, flow)))
		return drop(DROPPED_REWRITE);
	count(ERRORS_TRANSLATED);
	return take(ctx, settings, flow, way);
}

/* The first packet of a flow. */
GLOBAL int begin(struct __sk_buff *ctx, struct work *w, const struct config *settings)
{
	const struct headers *h;
	struct verdict *v;
	struct flow *flow;
	__u32 reason;

	if (!w || !settings)
		return NEXT;
	h = &w->packet.outer;
	v = &w->verdict;
	clear_verdict(v);
	decide_about(w, settings);
	record(settings, v);
	if (settings->flags & (ONLY_DECIDE | STATELESS))
		return NEXT;
	if (v->outcome == PASSED) {
		const int apart = keep_apart(w, settings);

		if (apart < 0)
			return drop(DROPPED_NO_PORT);
		flow = apart ? map_lookup(&flows, &h->tuple) : NULL;
		if (flow)
			return carry_out(ctx, w, settings, flow);
		/* What goes on through this node need not be looked at again on its way out; what ends here may be a
		 * tunnel's, and what is in it is still to come. */
		if (w->place == COMES_IN && !(w->destination_flags & ON_NODE))
			add_mark(ctx, settings->mark);
		return NEXT;
	}
	if (v->outcome == DROPPED)
		return drop(v->reason);
	if (v->outcome == REFUSED) {
		if (make_refusal(ctx, h, settings))
			return drop(DROPPED_REWRITE);
		count(REFUSALS_SENT);
		if (w->place == GOES_OUT)
			return to_process(ctx, settings);
		add_mark(ctx, settings->mark);
		return redirect(ctx->ifindex, 0);
	}
	if (h->fragment == FIRST_FRAGMENT && h->tuple.protocol == PROTOCOL_SCTP)
		return drop(DROPPED_SCTP_FRAGMENT);
	reason = open_flow(w, settings);
	if (reason)
		return drop(reason);
	flow = map_lookup(&flows, &h->tuple);
	if (!flow)
		return drop(DROPPED_FLOWS_FULL);
	if (h->fragment == FIRST_FRAGMENT)
		remember_fragment(h, w->now);
	return carry_out(ctx, w, settings, flow);
}

INLINE int handle(struct __sk_buff *ctx, enum place place)
{
	const __u32 zero = 0, ifindex = ctx->ifindex;
	const struct config *settings = map_lookup(&config, &zero);
	struct work *w = map_lookup(&work, &zero);
	const __u32 *device;
	struct headers *h;
	struct flow *flow;

	if (!settings || !w || mark_of(ctx) & settings->mark)
		return NEXT;
	h = &w->packet.outer;
	w->place = place;
	switch (parse_at_once(ctx, h) ? TRANSPORT_PACKET : parse_slowly(ctx, w)) {
	case OTHER_PACKET:
		return NEXT;
	case ERROR_PACKET:
		w->now = clock(settings);
		return settings->flags & STATELESS ? NEXT : follow_error(ctx, w, settings);
	case TRANSPORT_PACKET:
		break;
	}
	w->now = clock(settings);
	if (h->fragment == LATER_FRAGMENT && !recall_fragment(h, w->now))
		return lone_fragment(h);
	flow = settings->flags & STATELESS ? NULL : find_flow(h, w->now);
	if (flow)
		return follow(ctx, w, settings, flow);
	if (h->fragment == LATER_FRAGMENT)
		return lone_fragment(h);
	device = map_lookup(&devices, &ifindex);
	w->device = device ? *device : 0;
	return begin(ctx, w, settings);
}

/* What comes in from another machine, or from a pod. */
SEC("tc/ingress")
int plumbline_ingress(struct __sk_buff *ctx)
{
	return handle(ctx, COMES_IN);
}

/* What the node's own processes send. */
SEC("tc/egress")
int plumbline_egress(struct __sk_buff *ctx)
{
	return handle(ctx, GOES_OUT);
}

/*
 * Before there is an skb: packets of flows that tc has begun, and whose way is out again by an uplink. Node ports and
 * virtual IPs whose endpoint is on another node are turned round here. Everything else goes up to tc.
 *
 * A frame says nothing of checksums that a device is still to compute, so this belongs on real interfaces, or on a veth
 * whose peer computes its own.
 */
SEC("xdp")
int plumbline_xdp(struct xdp_md *ctx)
{
	const __u32 zero = 0;
	const struct config *settings = map_lookup(&config, &zero);
	struct work *w = map_lookup(&work, &zero);
	const struct headers *h;
	__be16 ethertype;
	__u8 macs[12];
	struct flow *flow;
	__u32 ifindex;

	if (!settings || !w || !(settings->flags & STRAIGHT) || settings->flags & (STATELESS | ONLY_DECIDE))
		return XDP_PASS;
	h = &w->packet.outer;
	if (xdp_load(ctx, 12, &ethertype, sizeof(ethertype)) ||
	    parse(ctx, true, ntohs(ethertype), &w->packet) != TRANSPORT_PACKET)
		return XDP_PASS;
	if (h->fragment != WHOLE || h->ttl <= 1)
		return XDP_PASS;
	w->now = clock(settings);
	flow = find_flow(h, w->now);
	if (!flow || flow->flags & TO_HOST || flow->epoch != settings->epoch ||
	    h->l4 - h->l3 + h->l4_length > flow->mtu)
		return XDP_PASS;
	if (!(flow->flags & BY_UPLINK))
		return XDP_PASS;
	ifindex = flow->ifindex;
	keep_alive(h, flow, w->now);
	__builtin_memcpy(macs, flow->destination_mac, 6);
	__builtin_memcpy(macs + 6, flow->source_mac, 6);
	if (rewrite(ctx, true, h, flow, true) || xdp_store(ctx, 0, macs, sizeof(macs))) {
		count(DROPPED_REWRITE);
		return XDP_DROP;
	}
	count(XDP_FORWARDED);
	return ifindex == ctx->ingress_ifindex ? XDP_TX : redirect(ifindex, 0);
}

/* As many keys as fit a page, after a head of 16 bytes with their number. */
#define MOST_COLLECTED 64

/*
 * Run by the controller, never by a packet: of the flows whose keys it is given, forget those that are past their time.
 * It does this here so that state has one writer, and endpoints' active flows are counted down. The head comes back
 * with what the clock shows in its second half.
 */
SEC("tc/collect")
int plumbline_collect(struct __sk_buff *ctx)
{
	const __u32 zero = 0;
	const struct config *settings = map_lookup(&config, &zero);
	__u32 number, forgotten = 0;
	struct tuple key;
	__u64 now;

	if (!settings || skb_load(ctx, 0, &number, sizeof(number)))
		return 0;
	now = clock(settings);
	if (skb_store(ctx, 8, &now, sizeof(now), 0))
		return 0;
	for (__u32 i = 0; i < MOST_COLLECTED && i < number; i++) {
		struct flow *flow;

		if (skb_load(ctx, 16 + i * sizeof(key), &key, sizeof(key)))
			break;
		flow = map_lookup(&flows, &key);
		if (!flow || flow->expires > now)
			continue;
		forget(&key, flow);
		forgotten++;
	}
	return forgotten;
}
