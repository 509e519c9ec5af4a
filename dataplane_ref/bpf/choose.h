/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which endpoint of a set: the schedulers. The names and meanings are IPVS's
 * (https://man7.org/linux/man-pages/man8/ipvsadm.8.html), and Maglev's (NSDI 2016).
 */
#ifndef PLUMBLINE_CHOOSE_H
#define PLUMBLINE_CHOOSE_H

#include "flows.h"

/* Endpoints that the schedulers which compare look at; of a larger set, so many from a place that moves on. */
#define MOST_COMPARED 128

/* Jenkins' one-at-a-time hash over words: even enough for a few, and the same on every node. */
INLINE __u32 mix(__u32 hash, __u32 word)
{
	for (int i = 0; i < 4; i++) {
		hash += word >> (8 * i) & 255;
		hash += hash << 10;
		hash ^= hash >> 6;
	}
	return hash;
}

INLINE __u32 finish_hash(__u32 hash)
{
	hash += hash << 3;
	hash ^= hash >> 11;
	return hash + (hash << 15);
}

INLINE __u32 hash_address(__u32 hash, const struct address *address)
{
	for (int i = 0; i < 4; i++)
		hash = mix(hash, address->words[i]);
	return hash;
}

/* Over the whole range without the bias of a remainder (Lemire, 2019). */
INLINE __u32 scale(__u32 number, __u32 count)
{
	return (__u64)number * count >> 32;
}

INLINE __u32 next_in_turn(__u32 service_port)
{
	__u32 *cursor = map_lookup(&cursors, &service_port);

	return cursor ? __sync_fetch_and_add(cursor, 1) : 0;
}

INLINE __u32 member(const struct set *set, __u32 place)
{
	const __u32 index = set->first + place;
	const __u32 *number = map_lookup(&members, &index);

	return number ? *number : NO_ENDPOINT;
}

/*
 * The endpoint with the least (active + 1) / weight, or of least connections the least active / weight; the first of
 * equal ones, from a place that moves on. Never queue: an idle endpoint before all others.
 */
GLOBAL __u32 least_busy(const struct frontend *frontend, const struct set *set)
{
	__u32 compared, extra, start, best = NO_ENDPOINT;
	__u64 best_load = 0, best_weight = 1;

	if (!frontend || !set || !set->count)
		return NO_ENDPOINT;
	compared = set->count < MOST_COMPARED ? set->count : MOST_COMPARED;
	extra = frontend->scheduler == LEAST_CONNECTIONS ? 0 : 1;
	start = next_in_turn(frontend->service_port) % set->count;
	for (__u32 i = 0; i < MOST_COMPARED && i < compared; i++) {
		const __u32 place = start + i < set->count ? start + i : start + i - set->count;
		const __u32 number = member(set, place);
		const struct endpoint *endpoint = map_lookup(&endpoints, &number);
		const struct endpoint_state *state = map_lookup(&endpoint_states, &number);
		__u32 active;
		__u64 load;

		if (!endpoint || !state)
			continue;
		active = state->generation == endpoint->generation ? state->active : 0;
		if (frontend->scheduler == NEVER_QUEUE && !active)
			return number;
		load = active + extra;
		if (best == NO_ENDPOINT || load * best_weight < best_load * endpoint->weight) {
			best = number;
			best_load = load;
			best_weight = endpoint->weight;
		}
	}
	return best;
}

INLINE __u32 choose(const struct frontend *frontend, const struct set *set, const struct tuple *tuple)
{
	__u32 hash;

	switch (frontend->scheduler) {
	case ROUND_ROBIN:
	case WEIGHTED_ROUND_ROBIN:
		return member(set, next_in_turn(frontend->service_port) % set->count);
	case LEAST_CONNECTIONS:
	case SHORTEST_EXPECTED_DELAY:
	case NEVER_QUEUE:
		return least_busy(frontend, set);
	case SOURCE_HASH:
		hash = hash_address(0, &tuple->source);
		break;
	case DESTINATION_HASH:
		hash = hash_address(0, &tuple->destination);
		break;
	case MAGLEV:
		hash = hash_address(hash_address(0, &tuple->source), &tuple->destination);
		hash = mix(hash, (__u32)tuple->source_port << 16 | tuple->destination_port);
		hash = mix(hash, tuple->protocol);
		break;
	default:
		return member(set, scale(random_u32(), set->count));
	}
	return member(set, scale(finish_hash(hash), set->count));
}

#endif
