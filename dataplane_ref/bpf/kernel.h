/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel offers: its own structures from its own headers, and the helpers this datapath calls, by the numbers
 * that linux/bpf.h gives them (https://man7.org/linux/man-pages/man7/bpf-helpers.7.html says what each does).
 */
#ifndef PLUMBLINE_KERNEL_H
#define PLUMBLINE_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
/*
 * A function that the verifier looks at once, by itself, instead of anew at every call: what keeps loading fast. Its
 * pointers may be anything to it, so each such function begins by looking whether they are there.
 */
#define GLOBAL __attribute__((noinline))
#define NULL ((void *)0)

/* How BTF describes a map: a member's type carries what the loader reads. */
#define __uint(name, value) int (*name)[value]
#define __type(name, type) typeof(type) *name

typedef _Bool bool;
#define true 1
#define false 0

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* The object is little-endian, as every machine it is built for. */
#define htons(number) ((__be16)__builtin_bswap16((__u16)(number)))
#define ntohs(number) __builtin_bswap16((__u16)(number))
#define htonl(number) ((__be32)__builtin_bswap32((__u32)(number)))
#define ntohl(number) __builtin_bswap32((__u32)(number))

static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*map_update)(void *map, const void *key, const void *value,
			  __u64 flags) = (void *)BPF_FUNC_map_update_elem;
static long (*map_delete)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
/* Compiled into one instruction that reads memory, where any clock is a call. */
static __u64 (*ticks)(void) = (void *)BPF_FUNC_jiffies64;
static __u32 (*random_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static __s64 (*checksum_difference)(const void *from, __u32 from_size, const void *to, __u32 to_size,
				    __u32 seed) = (void *)BPF_FUNC_csum_diff;
static long (*redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*redirect_neigh)(__u32 ifindex, void *params, int size, __u64 flags) = (void *)BPF_FUNC_redirect_neigh;
static long (*redirect_peer)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect_peer;
static long (*fib_lookup)(void *ctx, void *params, int size, __u32 flags) = (void *)BPF_FUNC_fib_lookup;

static long (*skb_load)(const void *skb, __u32 offset, void *to, __u32 size) = (void *)BPF_FUNC_skb_load_bytes;
static long (*skb_store)(void *skb, __u32 offset, const void *from, __u32 size,
			 __u64 flags) = (void *)BPF_FUNC_skb_store_bytes;
static long (*skb_l3_checksum)(void *skb, __u32 offset, __u64 from, __u64 to,
			       __u64 size) = (void *)BPF_FUNC_l3_csum_replace;
static long (*skb_l4_checksum)(void *skb, __u32 offset, __u64 from, __u64 to,
			       __u64 flags) = (void *)BPF_FUNC_l4_csum_replace;
static long (*skb_change_tail)(void *skb, __u32 size, __u64 flags) = (void *)BPF_FUNC_skb_change_tail;
static long (*skb_adjust_room)(void *skb, __s32 difference, __u32 mode,
			       __u64 flags) = (void *)BPF_FUNC_skb_adjust_room;

static long (*xdp_load)(void *xdp, __u32 offset, void *to, __u32 size) = (void *)BPF_FUNC_xdp_load_bytes;
static long (*xdp_store)(void *xdp, __u32 offset, const void *from, __u32 size) = (void *)BPF_FUNC_xdp_store_bytes;

#endif
