/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Changing a packet: addresses, ports, and every checksum that covers them, by the difference only (RFC 1624), so
 * that a packet that came with a wrong checksum leaves with one just as wrong.
 */
#ifndef PLUMBLINE_REWRITE_H
#define PLUMBLINE_REWRITE_H

#include "packet.h"
#include "sctp.h"

#define IPV4_CHECKSUM 10
#define IPV4_TTL 8
#define IPV4_ADDRESSES 12
#define IPV6_ADDRESSES 8
#define IPV6_HOP_LIMIT 7
#define TCP_CHECKSUM 16
#define UDP_CHECKSUM 6
#define ICMP_CHECKSUM 2

/* Source and destination, as they lie in an IPv4 or IPv6 header. */
struct address_pair {
	struct address source;
	struct address destination;
};

INLINE long store(void *ctx, bool xdp, __u32 offset, const void *from, __u32 size)
{
	return xdp ? xdp_store(ctx, offset, from, size) : skb_store(ctx, offset, from, size, 0);
}

/*
 * Correct the checksum at `offset` by `difference` (of checksum_difference). `flags`: BPF_F_PSEUDO_HDR where the change
 * is outside what the checksum's protocol carries, so that a checksum still to be computed by the device takes it
 * in; BPF_F_MARK_MANGLED_0 where zero stands for "none" (UDP).
 */
INLINE long correct(void *ctx, bool xdp, __u32 offset, __u32 difference, __u64 flags)
{
	__u16 field;
	__u32 sum;

	if (!xdp)
		return skb_l4_checksum(ctx, offset, 0, difference, flags);
	if (xdp_load(ctx, offset, &field, sizeof(field)))
		return -1;
	if (!field && flags & BPF_F_MARK_MANGLED_0)
		return 0;
	sum = (__u16)~field + (difference & 0xffff) + (difference >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	field = (__u16)~sum;
	if (!field && flags & BPF_F_MARK_MANGLED_0)
		field = 0xffff;
	return xdp_store(ctx, offset, &field, sizeof(field));
}

/* The addresses in an IP header, its own checksum included; what they changed by for others' checksums. */
INLINE long rewrite_addresses(void *ctx, bool xdp, const struct headers *h, const struct address_pair *to,
			      __u32 *difference)
{
	if (h->family == 4) {
		__be32 before[2] = { h->tuple.source.words[3], h->tuple.destination.words[3] };
		__be32 after[2] = { to->source.words[3], to->destination.words[3] };

		*difference = checksum_difference(before, sizeof(before), after, sizeof(after), 0);
		/* An IPv4 header has no checksum to be computed later: as for any that the device leaves alone. */
		if (xdp ? correct(ctx, xdp, h->l3 + IPV4_CHECKSUM, *difference, 0) :
			  skb_l3_checksum(ctx, h->l3 + IPV4_CHECKSUM, 0, *difference, 0))
			return -1;
		return store(ctx, xdp, h->l3 + IPV4_ADDRESSES, after, sizeof(after));
	}
	*difference = checksum_difference(&h->tuple.source, sizeof(*to), to, sizeof(*to), 0);
	return store(ctx, xdp, h->l3 + IPV6_ADDRESSES, to, sizeof(*to));
}

INLINE long rewrite_sctp_ports(void *ctx, bool xdp, const struct headers *h, __u32 before, __u32 after)
{
	__u32 checksum;

	if (before == after)
		return 0;
	if (h->fragment != WHOLE || load(ctx, xdp, h->l4 + SCTP_CHECKSUM, &checksum, sizeof(checksum)))
		return -1;
	/* Zero: the device will compute it. */
	if (checksum) {
		checksum ^= sctp_checksum_change(before ^ after, h->l4_length);
		if (store(ctx, xdp, h->l4 + SCTP_CHECKSUM, &checksum, sizeof(checksum)))
			return -1;
	}
	return store(ctx, xdp, h->l4, &after, sizeof(after));
}

/* The ports in a transport header, and its checksum. */
INLINE long rewrite_transport(void *ctx, bool xdp, const struct headers *h, __u32 ports, __u32 addresses_changed_by)
{
	const bool udp = h->tuple.protocol == PROTOCOL_UDP;
	const __u32 checksum = h->l4 + (udp ? UDP_CHECKSUM : TCP_CHECKSUM);
	const __u64 flags = udp ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 before;

	__builtin_memcpy(&before, &h->tuple.source_port, sizeof(before));
	if (h->tuple.protocol == PROTOCOL_SCTP)
		return rewrite_sctp_ports(ctx, xdp, h, before, ports);
	if (correct(ctx, xdp, checksum, addresses_changed_by, flags | BPF_F_PSEUDO_HDR))
		return -1;
	if (before == ports)
		return 0;
	if (correct(ctx, xdp, checksum, checksum_difference(&before, 4, &ports, 4, 0), flags))
		return -1;
	return store(ctx, xdp, h->l4, &ports, sizeof(ports));
}

/* What a flow makes of its packets. */
INLINE long rewrite(void *ctx, bool xdp, const struct headers *h, const struct flow *flow)
{
	const struct address_pair to = { flow->source, flow->destination };
	__u32 difference = 0, ports;

	if (rewrite_addresses(ctx, xdp, h, &to, &difference))
		return -1;
	if (h->fragment == LATER_FRAGMENT)
		return 0;
	__builtin_memcpy(&ports, &flow->source_port, sizeof(ports));
	return rewrite_transport(ctx, xdp, h, ports, difference);
}

/*
 * An ICMP error about a packet of a flow. `flow` is the direction that the error travels in, and `was` its key: what
 * that direction's packets come with. The packet inside went the other way, so its source is what `flow` makes the
 * destination, and so on. The error's own source is rewritten only if it is the endpoint's (or client's): of a router
 * in between it says who it is.
 *
 * The packet inside gets its IP checksum and, where it is there, its transport checksum put right too. All of it is
 * covered by the ICMP checksum, and an IPv4 header that stays consistent changes that by nothing.
 */
INLINE long rewrite_error(void *ctx, bool xdp, const struct packet *p, const struct tuple *was, const struct flow *flow)
{
	const struct headers *outer = &p->outer, *inner = &p->inner;
	const bool ipv6 = outer->family == 6, udp = inner->tuple.protocol == PROTOCOL_UDP;
	const bool from_the_end = same_address(&outer->tuple.source, &was->source);
	const struct address_pair inside = { flow->destination, flow->source };
	const struct address_pair outside = {
		from_the_end ? flow->source : outer->tuple.source,
		same_address(&outer->tuple.destination, &was->destination) ? flow->destination : outer->tuple.destination,
	};
	const __be16 ports[2] = { flow->destination_port, flow->source_port };
	const __u32 icmp = outer->l4 + ICMP_CHECKSUM;
	const __u32 checksum = inner->l4 + (udp ? UDP_CHECKSUM : TCP_CHECKSUM);
	__u32 outer_change = 0, inner_change = 0, ports_change;
	__be16 before = 0, after = 0;

	if (rewrite_addresses(ctx, xdp, outer, &outside, &outer_change) ||
	    rewrite_addresses(ctx, xdp, inner, &inside, &inner_change))
		return -1;
	ports_change = checksum_difference(&inner->tuple.source_port, 4, ports, 4, 0);
	if (store(ctx, xdp, inner->l4, ports, sizeof(ports)))
		return -1;
	if (inner->tuple.protocol != PROTOCOL_SCTP && !load(ctx, xdp, checksum, &before, sizeof(before)) &&
	    (before || !udp)) {
		if (correct(ctx, xdp, checksum, inner_change, udp ? BPF_F_MARK_MANGLED_0 : 0) ||
		    correct(ctx, xdp, checksum, ports_change, udp ? BPF_F_MARK_MANGLED_0 : 0) ||
		    load(ctx, xdp, checksum, &after, sizeof(after)))
			return -1;
	}
	if (before != after) {
		__u32 one = before, other = after;

		if (correct(ctx, xdp, icmp, checksum_difference(&one, 4, &other, 4, 0), 0))
			return -1;
	}
	if (correct(ctx, xdp, icmp, ports_change, 0))
		return -1;
	if (!ipv6)
		return 0;
	return correct(ctx, xdp, icmp, inner_change, 0) || correct(ctx, xdp, icmp, outer_change, BPF_F_PSEUDO_HDR);
}

/* One hop further. */
INLINE long count_hop(void *ctx, bool xdp, const struct headers *h)
{
	__u8 ttl = h->ttl - 1;
	__be16 before = htons(h->ttl << 8), after = htons(ttl << 8);
	__u32 one = before, other = after;

	if (h->family == 6)
		return store(ctx, xdp, h->l3 + IPV6_HOP_LIMIT, &ttl, 1);
	if (xdp ? correct(ctx, xdp, h->l3 + IPV4_CHECKSUM, checksum_difference(&one, 4, &other, 4, 0), 0) :
		  skb_l3_checksum(ctx, h->l3 + IPV4_CHECKSUM, before, after, sizeof(before)))
		return -1;
	return store(ctx, xdp, h->l3 + IPV4_TTL, &ttl, 1);
}

#endif
