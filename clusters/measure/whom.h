/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who answers. Endpoints that share a namespace are told apart by the address at which each was reached, which a server
 * without a letter of its own says (servers.h).
 */
#ifndef PLUMBLINE_WHOM_H
#define PLUMBLINE_WHOM_H

#include <poll.h>

#include "net.h"

enum { MOST_WATCHED = 1024, WHOM_PATIENCE_MS = 200, WATCH_BREATH_US = 50, WHOM_LINE = 256 };

/* An address as 16 bytes, IPv4 as ::ffff:a.b.c.d, so that both families compare alike. */
static inline int parsed(const char *text, struct in6_addr *address)
{
	struct in_addr v4;

	if (inet_pton(AF_INET6, text, address) == 1)
		return 1;
	if (inet_pton(AF_INET, text, &v4) != 1)
		return 0;
	memset(address, 0, sizeof(*address));
	memset(&address->s6_addr[10], 0xff, 2);
	memcpy(&address->s6_addr[12], &v4, sizeof(v4));
	return 1;
}

/*
 * A connection from a source port (0: any), and who says to have answered it, as text in `answer`. 0, or errno of what
 * went wrong; the answer is then empty.
 */
static inline int whom(const struct target *to, int source_port, char answer[INET6_ADDRSTRLEN + 1])
{
	const struct timeval patience = { WHOM_PATIENCE_MS / 1000, WHOM_PATIENCE_MS % 1000 * 1000 };
	const int fd = socket_for(to, 0), yes = 1;
	struct sockaddr_storage here = { .ss_family = to->address.ss_family };
	size_t length = 0;
	ssize_t got = 0;
	int error;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (source_port) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
		if (here.ss_family == AF_INET)
			((struct sockaddr_in *)&here)->sin_port = htons((uint16_t)source_port);
		else
			((struct sockaddr_in6 *)&here)->sin6_port = htons((uint16_t)source_port);
		if (bind(fd, (struct sockaddr *)&here, to->length))
			fail("bind");
	}
	errno = 0;
	if (!dial(fd, to) && send(fd, "?", 1, MSG_NOSIGNAL) == 1) {
		while (length < INET6_ADDRSTRLEN && !memchr(answer, '\n', length)) {
			got = recv(fd, answer + length, INET6_ADDRSTRLEN - length, 0);
			if (got <= 0)
				break;
			length += (size_t)got;
		}
	}
	error = got > 0 ? 0 : errno ? errno : ECONNRESET;
	answer[error || !length ? 0 : length - 1] = '\0';
	close(fd);
	return error;
}

/* For each line "ADDRESS PORT SOURCE-PORT" of stdin, one after the other: who answers, or "-" and the errno. */
static inline void dial_each(void)
{
	char address[INET6_ADDRSTRLEN], port[16], answer[INET6_ADDRSTRLEN + 1];
	int source_port, error;

	while (scanf("%45s %15s %d", address, port, &source_port) == 3) {
		const struct target to = target_of(address, port);

		error = whom(&to, source_port, answer);
		if (error)
			printf("-%d\n", error);
		else
			puts(answer);
	}
}

/*
 * Something that is waited for at a target: that one of a range of endpoints answers ('+'), or that none of them does
 * any more ('-'), which is so when `calm` others have answered since the last one did.
 */
struct watched {
	struct target to;
	struct in6_addr first, last;
	uint64_t deadline, seen; /* when the first of the range answered; when the last one was asked that did */
	unsigned long answers, failures, calm, needed;
	int number;
	char sign;
};

static inline int is_within(const struct watched *one, const char *answer)
{
	struct in6_addr address;

	return parsed(answer, &address) && memcmp(&address, &one->first, sizeof(address)) >= 0 &&
	       memcmp(&address, &one->last, sizeof(address)) <= 0;
}

/* Whether there is nothing more to wait for. What came too late is told as never. */
static inline int is_over(struct watched *one)
{
	char answer[INET6_ADDRSTRLEN + 1];
	const uint64_t asked = now();

	if (whom(&one->to, 0, answer)) {
		one->failures++;
	} else if (is_within(one, answer)) {
		one->answers++;
		one->calm = 0;
		one->seen = one->sign == '+' ? now() : asked;
	} else {
		one->answers++;
		one->calm++;
	}
	if (one->sign == '+' ? one->seen != 0 : one->calm >= one->needed)
		return 1;
	if (now() < one->deadline)
		return 0;
	one->calm = 0;
	return 1;
}

/* "NUMBER SIGN ADDRESS PORT FIRST LAST CALM MILLISECONDS"; 0 where stdin has ended. */
static inline int read_watched(struct watched *one)
{
	char line[WHOM_LINE], address[INET6_ADDRSTRLEN], port[16], first[INET6_ADDRSTRLEN], last[INET6_ADDRSTRLEN];
	unsigned long milliseconds;

	if (!fgets(line, sizeof(line), stdin))
		return 0;
	memset(one, 0, sizeof(*one));
	if (sscanf(line, "%d %c %45s %15s %45s %45s %lu %lu", &one->number, &one->sign, address, port, first, last,
		   &one->needed, &milliseconds) != 8 ||
	    !parsed(first, &one->first) || !parsed(last, &one->last)) {
		errno = EINVAL;
		fail(line);
	}
	one->to = target_of(address, port);
	one->deadline = now() + milliseconds * 1000000;
	return 1;
}

/*
 * Wait for whatever lines of stdin ask for, all at once, and print for each "NUMBER IS-OVER NANOSECONDS ANSWERS
 * FAILURES": whether it came before its deadline, and when (CLOCK_MONOTONIC; 0: none of the range ever answered).
 */
static inline void watch(void)
{
	static struct watched all[MOST_WATCHED];
	struct pollfd input = { .fd = 0, .events = POLLIN };
	size_t count = 0;
	int has_ended = 0;

	setvbuf(stdin, NULL, _IONBF, 0);
	puts("ready");
	fflush(stdout);
	while (count || !has_ended) {
		while (!has_ended && count < MOST_WATCHED && poll(&input, 1, count ? 0 : -1) == 1) {
			if (read_watched(&all[count]))
				count++;
			else
				has_ended = 1;
		}
		for (size_t i = 0; i < count;) {
			struct watched *one = &all[i];

			if (!is_over(one)) {
				i++;
			} else {
				printf("%d %d %llu %lu %lu\n", one->number,
				       one->sign == '+' ? one->seen != 0 : one->calm >= one->needed,
				       (unsigned long long)one->seen, one->answers, one->failures);
				fflush(stdout);
				*one = all[--count];
			}
			usleep(WATCH_BREATH_US);
		}
	}
}

#endif
