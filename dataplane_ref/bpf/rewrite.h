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
#define IPV6_HOP_LIMIT 7
#define IPV6_ADDRESSES 8
#define TCP_CHECKSUM 16
#define UDP_CHECKSUM 6
#define ICMP_CHECKSUM 2

/* Source and destination, as they lie in an IPv4 or IPv6 header. */
struct address_pair {
	struct address source;
	struct address destination;
};

INLINE __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)((sum & 0xffff) + (sum >> 16));
}

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
	field = ~fold(sum);
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
		if (xdp ? correct(ctx, xdp, h->l3 + IPV4_CHECKSUM, *difference, 0)
			: skb_l3_checksum(ctx, h->l3 + IPV4_CHECKSUM, 0, *difference, 0))
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
INLINE long rewrite_transport(void *ctx, bool xdp, const struct headers *h, const struct flow *flow)
{
	const bool udp = h->tuple.protocol == PROTOCOL_UDP;
	const __u32 checksum = h->l4 + (udp ? UDP_CHECKSUM : TCP_CHECKSUM);
	const __u64 flags = udp ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 before, ports;

	__builtin_memcpy(&before, &h->tuple.source_port, sizeof(before));
	__builtin_memcpy(&ports, &flow->source_port, sizeof(ports));
	if (h->tuple.protocol == PROTOCOL_SCTP)
		return rewrite_sctp_ports(ctx, xdp, h, before, ports);
	if (correct(ctx, xdp, checksum, flow->addresses_change, flags | BPF_F_PSEUDO_HDR))
		return -1;
	if (!flow->ports_change)
		return 0;
	if (correct(ctx, xdp, checksum, flow->ports_change, flags))
		return -1;
	return store(ctx, xdp, h->l4, &ports, sizeof(ports));
}

/* By what other addresses and ports change a checksum: worked out once per flow. */
INLINE void work_out_changes(const struct tuple *was, __u8 family, struct flow *flow)
{
	__u32 change;

	if (family == 4) {
		const __be32 before[2] = { was->source.words[3], was->destination.words[3] };
		const __be32 after[2] = { flow->source.words[3], flow->destination.words[3] };

		change = checksum_difference(before, sizeof(before), after, sizeof(after), 0);
	} else {
		const struct address_pair after = { flow->source, flow->destination };

		change = checksum_difference(&was->source, sizeof(after), &after, sizeof(after), 0);
	}
	flow->addresses_change = fold(change);
	flow->ports_change = 0;
	if (was->source_port != flow->source_port || was->destination_port != flow->destination_port)
		flow->ports_change = fold(checksum_difference(&was->source_port, 4, &flow->source_port, 4, 0));
}

/* From the TTL on, an IPv4 header is all that a flow changes; from the hop limit on, an IPv6 header is. */
struct ipv4_rest {
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

struct ipv6_rest {
	__u8 hop_limit;
	__u8 addresses[32];
};

/* What a flow makes of its packets, and one hop less to live if they go on from here without the stack. */
INLINE long rewrite(void *ctx, bool xdp, const struct headers *h, const struct flow *flow, bool hop)
{
	long error;

	if (h->family == 4) {
		struct ipv4_rest rest = { h->ttl, h->tuple.protocol, 0, flow->source.words[3],
					  flow->destination.words[3] };
		__u32 sum = (__u16)~h->checksum + flow->addresses_change;

		if (hop) {
			rest.ttl -= 1;
			sum += (__u16)~htons(0x0100);
		}
		rest.checksum = ~fold(sum);
		error = store(ctx, xdp, h->l3 + IPV4_TTL, &rest, sizeof(rest));
	} else {
		struct ipv6_rest rest;

		rest.hop_limit = h->ttl - (hop ? 1 : 0);
		__builtin_memcpy(rest.addresses, &flow->source, 32);
		error = store(ctx, xdp, h->l3 + IPV6_HOP_LIMIT, &rest, sizeof(rest));
	}
	if (error || h->fragment == LATER_FRAGMENT)
		return error;
	return rewrite_transport(ctx, xdp, h, flow);
}

/*
 * The same for what `parse_at_once` has read: everything is where it always is, and is written in place; MACs too, if
 * the packet goes on from here. Checksums first, since helpers that change them make the packet's place unknown.
 */
INLINE long rewrite_in_place(struct __sk_buff *ctx, const struct headers *h, const struct flow *flow, bool hop,
			     bool macs)
{
	const bool udp = h->tuple.protocol == PROTOCOL_UDP;
	const __u64 flags = udp ? BPF_F_MARK_MANGLED_0 : 0;
	const __u32 checksum = h->l4 + (udp ? UDP_CHECKSUM : TCP_CHECKSUM);
	__u8 *data, *end, *ports;

	if (skb_l4_checksum(ctx, checksum, 0, flow->addresses_change, flags | BPF_F_PSEUDO_HDR))
		return -1;
	if (flow->ports_change && skb_l4_checksum(ctx, checksum, 0, flow->ports_change, flags))
		return -1;
	data = (__u8 *)(long)ctx->data;
	end = (__u8 *)(long)ctx->data_end;
	if (h->family == 4) {
		struct ipv4_header *ip = (void *)(data + ETHERNET_BYTES);
		__u32 sum = (__u16)~h->checksum + flow->addresses_change;

		ports = (__u8 *)(ip + 1);
		if (ports + 4 > end)
			return -1;
		if (hop) {
			ip->ttl = h->ttl - 1;
			sum += (__u16)~htons(0x0100);
		}
		ip->checksum = ~fold(sum);
		ip->source = flow->source.words[3];
		ip->destination = flow->destination.words[3];
	} else {
		struct ipv6_header *ip = (void *)(data + ETHERNET_BYTES);

		ports = (__u8 *)(ip + 1);
		if (ports + 4 > end)
			return -1;
		if (hop)
			ip->hop_limit = h->ttl - 1;
		ip->source = flow->source;
		ip->destination = flow->destination;
	}
	__builtin_memcpy(ports, &flow->source_port, 4);
	if (macs) {
		__builtin_memcpy(data, flow->destination_mac, 6);
		__builtin_memcpy(data + 6, flow->source_mac, 6);
	}
	return 0;
}

/* One hop less to live, for what goes on from here without the stack and is not rewritten as a whole. */
INLINE long take_hop(struct __sk_buff *ctx, const struct headers *h)
{
	const __u8 ttl = h->ttl - 1;

	if (h->family == 6)
		return skb_store(ctx, h->l3 + IPV6_HOP_LIMIT, &ttl, sizeof(ttl), 0);
	if (skb_l3_checksum(ctx, h->l3 + IPV4_CHECKSUM, htons(h->ttl << 8), htons(ttl << 8), 2))
		return -1;
	return skb_store(ctx, h->l3 + IPV4_TTL, &ttl, sizeof(ttl), 0);
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
INLINE long rewrite_error(void *ctx, bool xdp, const struct packet *p, const struct tuple *was,
			  const struct flow *flow)
{
	const struct headers *outer = &p->outer, *inner = &p->inner;
	const bool ipv6 = outer->family == 6, udp = inner->tuple.protocol == PROTOCOL_UDP;
	const bool from_the_end = same_address(&outer->tuple.source, &was->source);
	const struct address_pair inside = { flow->destination, flow->source };
	const struct address_pair outside = {
		from_the_end ? flow->source : outer->tuple.source,
		same_address(&outer->tuple.destination, &was->destination) ? flow->destination
									   : outer->tuple.destination,
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

#endif
