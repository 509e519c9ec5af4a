/* SPDX-License-Identifier: Apache-2.0 */
/* Single measurements: kept whole, and counted in bins of time. */
#ifndef PLUMBLINE_SAMPLES_H
#define PLUMBLINE_SAMPLES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SAMPLES = 1 << 22, EXPECTED = 1 << 17, MOST_BINS = 1 << 14 };

struct bin {
	uint32_t count, failures, worst;
};

/* Times in nanoseconds; `width` of a bin, 0 for none; `began` where the first one does. */
struct samples {
	uint64_t began, width;
	size_t count, kept, failures, bins; /* of `count` times the first `kept` are known */
	uint32_t *times;
	struct bin *bin;
};

static inline struct samples samples(uint64_t width)
{
	struct samples made = {
		.width = width,
		.times = malloc(MOST_SAMPLES * sizeof(uint32_t)),
		.bin = calloc(MOST_BINS, sizeof(struct bin)),
	};

	if (!made.times || !made.bin)
		abort();
	/* No page shall be missed while time counts, as far as that can be known. */
	memset(made.times, 1, EXPECTED * sizeof(uint32_t));
	return made;
}

/* Counted where it ended, so that a bin in which nothing ended stays empty. */
static inline void sampled(struct samples *all, uint64_t from, uint64_t to, int failed)
{
	const uint64_t took = to - from;
	const uint32_t kept = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;

	if (failed)
		all->failures++;
	else if (all->count++ < MOST_SAMPLES)
		all->times[all->kept++] = kept;
	if (all->width) {
		const uint64_t number = (to - all->began) / all->width;

		if (number < MOST_BINS) {
			struct bin *bin = &all->bin[number];

			failed ? bin->failures++ : bin->count++;
			if (kept > bin->worst)
				bin->worst = kept;
			if (number >= all->bins)
				all->bins = number + 1;
		}
	}
}

static inline int by_value(const void *one, const void *other)
{
	const uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return (a > b) - (a < b);
}

/* A line of count, failures, seconds, CPU seconds, p01, p50, p90, p99, worst; then one for each bin. */
static inline void print_samples(struct samples *all, uint64_t end, uint64_t cpu)
{
	const uint32_t *times = all->times;
	const size_t count = all->kept;
	uint32_t at[5] = { 0 };

	qsort(all->times, count, sizeof(*times), by_value);
	if (count) {
		const size_t places[5] = { count / 100, count / 2, count * 9 / 10, count * 99 / 100, count - 1 };

		for (int i = 0; i < 5; i++)
			at[i] = times[places[i]];
	}
	printf("%zu %zu %.9f %.9f %u %u %u %u %u\n", all->count, all->failures, (double)(end - all->began) / 1e9,
	       (double)cpu / 1e9, at[0], at[1], at[2], at[3], at[4]);
	for (size_t i = 0; i < all->bins; i++)
		printf("%u %u %u\n", all->bin[i].count, all->bin[i].failures, all->bin[i].worst);
}

#endif
