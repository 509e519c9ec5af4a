/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Refusing: ICMP port unreachable (RFC 792; RFC 4443, 3.1), to whoever sent the packet, as a host without a listener
 * would; or time exceeded, as a router would. The packet itself becomes the answer: its head stays as what the error is
 * about.
 */
#ifndef PLUMBLINE_REFUSE_H
#define PLUMBLINE_REFUSE_H

#include "maps.h"
#include "packet.h"
#include "rewrite.h"

/* RFC 1812, 4.3.2.3: as much as fits 576 bytes; RFC 4443, 2.4: 1,280. */
#define MOST_OF_IPV4 (576 - 28)
#define MOST_OF_IPV6 (1280 - 48)
#define FRESH_TTL 64

struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 unused;
};
EXPECT_SIZE(struct icmp_header, 8);

struct ipv4_refusal {
	struct ipv4_header ip;
	struct icmp_header icmp;
};
EXPECT_SIZE(struct ipv4_refusal, 28);

struct ipv6_refusal {
	struct ipv6_header ip;
	struct icmp_header icmp;
};
EXPECT_SIZE(struct ipv6_refusal, 48);

/* The sum of the `length` bytes at `offset`, as far as they go in steps of 4 (`length` is a multiple of it). */
INLINE long sum_of(void *ctx, __u32 offset, __u32 length, __u32 *sum)
{
	__be32 words[16];

	for (__u32 i = 0; i < MOST_OF_IPV6 / sizeof(words); i++) {
		if (length < sizeof(words))
			break;
		if (skb_load(ctx, offset, words, sizeof(words)))
			return -1;
		*sum = checksum_difference(NULL, 0, words, sizeof(words), *sum);
		offset += sizeof(words);
		length -= sizeof(words);
	}
	for (__u32 i = 0; i < 16; i++) {
		if (length < 4)
			break;
		if (skb_load(ctx, offset, words, 4))
			return -1;
		*sum = checksum_difference(NULL, 0, words, 4, *sum);
		offset += 4;
		length -= 4;
	}
	return 0;
}

INLINE long swap_macs(void *ctx)
{
	__u8 macs[12], swapped[12];

	if (skb_load(ctx, 0, macs, sizeof(macs)))
		return -1;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	return skb_store(ctx, 0, swapped, sizeof(swapped), 0);
}

enum refusal {
	PORT_UNREACHABLE,
	TIME_EXCEEDED,
};

/*
 * Turn the packet into its own refusal, on its way back. Room is made before the IP header; what is kept of the packet
 * is a multiple of four bytes (never less than the IP header and eight bytes, which RFC 792 asks for).
 */
GLOBAL long make_error(struct __sk_buff *ctx, const struct headers *h, const struct config *settings,
		       enum refusal why)
{
	__u32 most, kept, sum = 0;
	bool ipv6;

	if (!h || !settings)
		return -1;
	ipv6 = h->family == 6;
	most = ipv6 ? MOST_OF_IPV6 : MOST_OF_IPV4;
	kept = h->l4 - h->l3 + h->l4_length;
	kept = kept > most ? most : kept & ~3U;
	if (h->l3 + kept > ctx->len)
		return -1;
	if (h->l3 + kept < ctx->len && skb_change_tail(ctx, h->l3 + kept, 0))
		return -1;
	if (skb_adjust_room(ctx, ipv6 ? sizeof(struct ipv6_refusal) : sizeof(struct ipv4_refusal), BPF_ADJ_ROOM_MAC,
			    0))
		return -1;
	if (ipv6) {
		struct ipv6_refusal r = {};
		struct {
			struct address source, destination;
			__be32 length, next;
		} pseudo = { settings->node_ipv6, h->tuple.source, htonl(kept + 8), htonl(PROTOCOL_ICMPV6) };

		r.ip.version_and_class = htonl(6U << 28);
		r.ip.payload_length = htons(kept + sizeof(r.icmp));
		r.ip.next_header = PROTOCOL_ICMPV6;
		r.ip.hop_limit = FRESH_TTL;
		r.ip.source = settings->node_ipv6;
		r.ip.destination = h->tuple.source;
		r.icmp.type = 1;
		r.icmp.code = 4;
		if (why == TIME_EXCEEDED) {
			r.icmp.type = 3;
			r.icmp.code = 0;
		}
		if (sum_of(ctx, h->l3 + sizeof(r), kept, &sum))
			return -1;
		sum = checksum_difference(NULL, 0, &pseudo, sizeof(pseudo), sum);
		sum = checksum_difference(NULL, 0, &r.icmp, sizeof(r.icmp), sum);
		r.icmp.checksum = ~fold(sum);
		if (skb_store(ctx, h->l3, &r, sizeof(r), 0))
			return -1;
	} else {
		struct ipv4_refusal r = {};

		r.ip.version_and_length = 0x45;
		r.ip.total_length = htons(kept + sizeof(r));
		r.ip.ttl = FRESH_TTL;
		r.ip.protocol = PROTOCOL_ICMP;
		r.ip.source = settings->node_ipv4.words[3];
		r.ip.destination = h->tuple.source.words[3];
		r.ip.checksum = ~fold(checksum_difference(NULL, 0, &r.ip, sizeof(r.ip), 0));
		r.icmp.type = 3;
		r.icmp.code = 3;
		if (why == TIME_EXCEEDED) {
			r.icmp.type = 11;
			r.icmp.code = 0;
		}
		if (sum_of(ctx, h->l3 + sizeof(r), kept, &sum))
			return -1;
		sum = checksum_difference(NULL, 0, &r.icmp, sizeof(r.icmp), sum);
		r.icmp.checksum = ~fold(sum);
		if (skb_store(ctx, h->l3, &r, sizeof(r), 0))
			return -1;
	}
	return swap_macs(ctx);
}

INLINE long make_refusal(struct __sk_buff *ctx, const struct headers *h, const struct config *settings)
{
	return make_error(ctx, h, settings, PORT_UNREACHABLE);
}

#endif
