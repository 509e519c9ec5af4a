/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reading a packet. Nothing here believes a length: what is not wholly there is not ours, and stays as it is.
 *
 * Every function takes `xdp`, a constant: the same code works on an skb (tc) and on a frame (XDP).
 */
#ifndef PLUMBLINE_PACKET_H
#define PLUMBLINE_PACKET_H

#include "kernel.h"
#include "types.h"

#define ETHERNET_BYTES 14
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd

#define PROTOCOL_HOP_BY_HOP 0
#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_DESTINATION_OPTIONS 60
#define PROTOCOL_SCTP 132

#define TCP_OFFSET 12 /* where in the header its own length is */

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* RFC 8200 names four kinds of extension header before the payload; two may come twice. */
#define MAX_EXTENSIONS 6

struct ipv4_header {
	__u8 version_and_length;
	__u8 service;
	__be16 total_length;
	__be16 identification;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};
EXPECT_SIZE(struct ipv4_header, 20);

struct ipv6_header {
	__be32 version_and_class;
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	struct address source;
	struct address destination;
};
EXPECT_SIZE(struct ipv6_header, 40);

enum fragment_place {
	WHOLE = 0,
	FIRST_FRAGMENT = 1,
	LATER_FRAGMENT = 2, /* has no ports */
};

/* The headers of one IP packet: that on the wire, or that inside an ICMP error. */
struct headers {
	struct tuple tuple;
	__u32 l3; /* where in the frame its IP header begins */
	__u32 l4; /* where its transport header does */
	__u32 l4_length; /* how long that part is, as the IP header says */
	__u32 identification; /* of a fragment */
	__u8 family; /* 4 or 6 */
	__u8 fragment; /* enum fragment_place */
	__u8 ttl;
	__u8 tcp_flags;
	__be16 checksum; /* of an IPv4 header */
	__u8 plain; /* nothing before the transport header but an Ethernet and an IP header without options */
};

enum kind_of_packet {
	OTHER_PACKET = 0, /* nothing a Service could be about */
	TRANSPORT_PACKET = 1, /* TCP, UDP, SCTP */
	ERROR_PACKET = 2, /* an ICMP error; its `inner` headers are those of the packet it complains of */
};

struct packet {
	struct headers outer;
	struct headers inner;
};

/*
 * A packet's mark, read and written at its own place in the context: compilers that keep the place in a register make
 * a program that verifiers refuse ("modified ctx ptr").
 */
INLINE __u32 mark_of(const struct __sk_buff *ctx)
{
	__u32 mark;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(mark)
		     : "r"(ctx), "i"(__builtin_offsetof(struct __sk_buff, mark)));
	return mark;
}

INLINE void add_mark(struct __sk_buff *ctx, __u32 bit)
{
	__u32 mark = mark_of(ctx) | bit;

	asm volatile("*(u32 *)(%0 + %1) = %2"
		     :
		     : "r"(ctx), "i"(__builtin_offsetof(struct __sk_buff, mark)), "r"(mark)
		     : "memory");
}

INLINE long load(void *ctx, bool xdp, __u32 offset, void *to, __u32 size)
{
	return xdp ? xdp_load(ctx, offset, to, size) : skb_load(ctx, offset, to, size);
}

INLINE struct address ipv4_address(__be32 address)
{
	return (struct address){ { 0, 0, htonl(0xffff), address } };
}

INLINE bool is_mapped_ipv4(const struct address *address)
{
	return !address->words[0] && !address->words[1] && address->words[2] == htonl(0xffff);
}

INLINE bool same_address(const struct address *one, const struct address *other)
{
	return one->words[3] == other->words[3] && one->words[2] == other->words[2] &&
	       one->words[1] == other->words[1] && one->words[0] == other->words[0];
}

INLINE bool is_unspecified(const struct address *address)
{
	return !(address->words[0] | address->words[1] | address->words[2] | address->words[3]);
}

INLINE bool is_ipv4_loopback(const struct address *address)
{
	return is_mapped_ipv4(address) && (ntohl(address->words[3]) >> 24) == 127;
}

INLINE bool has_ports(__u8 protocol)
{
	return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_SCTP;
}

/* A TCP packet in the middle of a connection, as far as it says so itself. */
INLINE bool is_midstream(const struct headers *h)
{
	return h->tuple.protocol == PROTOCOL_TCP && (h->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN;
}

/* Bytes of the transport header that a whole packet must have for us to touch it. */
INLINE __u32 least_transport(__u8 protocol)
{
	return protocol == PROTOCOL_TCP ? 20 : protocol == PROTOCOL_UDP ? 8 : 12;
}

INLINE bool parse_ipv4(void *ctx, bool xdp, struct headers *h)
{
	struct ipv4_header ip;
	__u32 header, total, fragment;

	if (load(ctx, xdp, h->l3, &ip, sizeof(ip)))
		return false;
	header = (ip.version_and_length & 15) * 4;
	total = ntohs(ip.total_length);
	if (ip.version_and_length >> 4 != 4 || header < sizeof(ip) || total < header)
		return false;
	fragment = ntohs(ip.fragment);
	h->family = 4;
	h->tuple.source = ipv4_address(ip.source);
	h->tuple.destination = ipv4_address(ip.destination);
	h->tuple.protocol = ip.protocol;
	h->ttl = ip.ttl;
	h->checksum = ip.checksum;
	h->l4 = h->l3 + header;
	h->l4_length = total - header;
	h->identification = ip.identification;
	h->fragment = fragment & 0x1fff ? LATER_FRAGMENT : fragment & 0x2000 ? FIRST_FRAGMENT : WHOLE;
	return true;
}

INLINE bool parse_ipv6(void *ctx, bool xdp, struct headers *h)
{
	struct ipv6_header ip;
	__u32 offset, end;
	__u8 next;

	if (load(ctx, xdp, h->l3, &ip, sizeof(ip)))
		return false;
	if ((ntohl(ip.version_and_class) >> 28) != 6)
		return false;
	/* On the wire such addresses mean nothing, and here they would be taken for IPv4. */
	if (is_mapped_ipv4(&ip.source) || is_mapped_ipv4(&ip.destination))
		return false;
	h->family = 6;
	h->tuple.source = ip.source;
	h->tuple.destination = ip.destination;
	h->ttl = ip.hop_limit;
	h->fragment = WHOLE;
	next = ip.next_header;
	offset = h->l3 + sizeof(ip);
	end = offset + ntohs(ip.payload_length);
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		struct {
			__u8 next;
			__u8 length;
			__be16 fragment;
			__be32 identification;
		} extension;

		if (next != PROTOCOL_HOP_BY_HOP && next != PROTOCOL_ROUTING && next != PROTOCOL_DESTINATION_OPTIONS &&
		    next != PROTOCOL_FRAGMENT)
			break;
		if (h->fragment == LATER_FRAGMENT || load(ctx, xdp, offset, &extension, sizeof(extension)))
			return false;
		if (next == PROTOCOL_FRAGMENT) {
			__u32 fragment = ntohs(extension.fragment);

			h->fragment = fragment & 0xfff8 ? LATER_FRAGMENT : fragment & 1 ? FIRST_FRAGMENT : WHOLE;
			h->identification = extension.identification;
			offset += 8;
		} else {
			offset += (extension.length + 1) * 8;
		}
		next = extension.next;
	}
	if (offset > end)
		return false;
	h->tuple.protocol = next;
	h->l4 = offset;
	h->l4_length = end - offset;
	return true;
}

INLINE bool parse_network(void *ctx, bool xdp, __u32 ethertype, struct headers *h)
{
	if (ethertype == ETHERTYPE_IPV4)
		return parse_ipv4(ctx, xdp, h);
	if (ethertype == ETHERTYPE_IPV6)
		return parse_ipv6(ctx, xdp, h);
	return false;
}

INLINE bool parse_ports(void *ctx, bool xdp, struct headers *h)
{
	__be16 ports[2];

	if (load(ctx, xdp, h->l4, ports, sizeof(ports)))
		return false;
	h->tuple.source_port = ports[0];
	h->tuple.destination_port = ports[1];
	return true;
}

/* Of a whole packet, or a first fragment. */
INLINE bool parse_transport(void *ctx, bool xdp, struct headers *h)
{
	__u8 head[14];

	if (h->l4_length < least_transport(h->tuple.protocol))
		return false;
	if (h->tuple.protocol != PROTOCOL_TCP)
		return parse_ports(ctx, xdp, h);
	if (load(ctx, xdp, h->l4, head, sizeof(head)))
		return false;
	__builtin_memcpy(&h->tuple.source_port, head, 4);
	h->tcp_flags = head[13];
	return true;
}

/* RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem; RFC 4443: types below 128. */
INLINE bool is_error(__u8 protocol, __u8 type)
{
	if (protocol == PROTOCOL_ICMP)
		return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

/*
 * The common case, read in place: IPv4 without options or IPv6 without extensions, whole, TCP or UDP, and all of its
 * headers at hand. False where anything is different; `parse` then takes its time.
 */
INLINE bool parse_at_once(struct __sk_buff *ctx, struct headers *h)
{
	const __u8 *data = (const __u8 *)(long)ctx->data, *end = (const __u8 *)(long)ctx->data_end;
	const __u8 *transport;
	__u8 protocol;

	if (ctx->protocol == htons(ETHERTYPE_IPV4)) {
		const struct ipv4_header *ip = (const void *)(data + ETHERNET_BYTES);
		__u32 total;

		transport = (const __u8 *)(ip + 1);
		if (transport + 8 > end || ip->version_and_length != 0x45 || ip->fragment & htons(0x3fff))
			return false;
		total = ntohs(ip->total_length);
		protocol = ip->protocol;
		if (total < sizeof(*ip) + 8)
			return false;
		h->family = 4;
		h->tuple.source = ipv4_address(ip->source);
		h->tuple.destination = ipv4_address(ip->destination);
		h->ttl = ip->ttl;
		h->checksum = ip->checksum;
		h->l4 = ETHERNET_BYTES + sizeof(*ip);
		h->l4_length = total - sizeof(*ip);
	} else if (ctx->protocol == htons(ETHERTYPE_IPV6)) {
		const struct ipv6_header *ip = (const void *)(data + ETHERNET_BYTES);

		transport = (const __u8 *)(ip + 1);
		if (transport + 8 > end || (ntohl(ip->version_and_class) >> 28) != 6)
			return false;
		protocol = ip->next_header;
		h->l4_length = ntohs(ip->payload_length);
		if (h->l4_length < 8 || is_mapped_ipv4(&ip->source) || is_mapped_ipv4(&ip->destination))
			return false;
		h->family = 6;
		h->tuple.source = ip->source;
		h->tuple.destination = ip->destination;
		h->ttl = ip->hop_limit;
		h->l4 = ETHERNET_BYTES + sizeof(*ip);
	} else {
		return false;
	}
	if (protocol == PROTOCOL_TCP) {
		if (transport + 14 > end || h->l4_length < 20)
			return false;
		h->tcp_flags = transport[13];
	} else if (protocol == PROTOCOL_UDP) {
		h->tcp_flags = 0;
	} else {
		return false;
	}
	h->l3 = ETHERNET_BYTES;
	h->plain = true;
	h->fragment = WHOLE;
	h->tuple.protocol = protocol;
	__builtin_memcpy(&h->tuple.source_port, transport, 4);
	return true;
}

INLINE enum kind_of_packet parse(void *ctx, bool xdp, __u32 ethertype, struct packet *p)
{
	struct headers *h = &p->outer;
	__u8 protocol, type;

	h->l3 = ETHERNET_BYTES;
	h->tcp_flags = 0;
	h->plain = false;
	if (!parse_network(ctx, xdp, ethertype, h))
		return OTHER_PACKET;
	protocol = h->tuple.protocol;
	if (has_ports(protocol)) {
		if (h->fragment == LATER_FRAGMENT)
			return TRANSPORT_PACKET;
		return parse_transport(ctx, xdp, h) ? TRANSPORT_PACKET : OTHER_PACKET;
	}
	if (protocol != (h->family == 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6) || h->fragment != WHOLE)
		return OTHER_PACKET;
	if (h->l4_length < 8 || load(ctx, xdp, h->l4, &type, 1) || !is_error(protocol, type))
		return OTHER_PACKET;
	p->inner.l3 = h->l4 + 8;
	if (!parse_network(ctx, xdp, ethertype, &p->inner) || !has_ports(p->inner.tuple.protocol))
		return OTHER_PACKET;
	/* Eight bytes of the packet's payload are all that is promised: the ports, and not always a checksum. */
	if (p->inner.fragment == LATER_FRAGMENT || !parse_ports(ctx, xdp, &p->inner))
		return OTHER_PACKET;
	return ERROR_PACKET;
}

#endif
