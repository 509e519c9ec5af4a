/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Client and server for measurements, as tight as TCP allows. Each runs in the namespace it is started in and on the
 * one CPU it is told; it ends with the thread that started it.
 *
 *   traffic spin CPU              use up what nobody else wants of a CPU (SCHED_IDLE), so that it never sleeps
 *   traffic serve CPU PORT LETTER answer every byte with LETTER, over IPv4 and IPv6
 *   traffic tell CPU PORT         answer everything with the address at which it came in, and a newline
 *   traffic absorb CPU PORT       take connections, and nothing else, without ever being woken by one
 *   traffic sink CPU PORT         read and forget whatever one connection after the other sends
 *   traffic gulp CPU PORT         the same, and say a byte after each 64 KiB
 *   traffic KIND CPU SECONDS [NAME=NUMBER…]
 *                                 measure; targets come on stdin, a line "ADDRESS PORT" each, and are dialled at random
 *     connect                     connect(2) alone, then RST
 *     rate                        connect, a byte there, a byte back, RST
 *     request                     a byte there and back on one connection to the first target
 *     hundred                     connect, a hundred times a byte there and back, RST; each request is a sample, and
 *                                 the first one's time has the connect in it
 *     flow                        connect, 64 KiB there, a byte back, RST
 *     empty                       nothing: what measuring itself takes
 *     bulk                        send as much as goes on one connection to the first target
 *                                 prints "began" when it is warmed up; at its end count (of bytes, where it is bulk),
 *                                 failures, seconds, those of CPU time, then p01, p50, p90, p99 and the worst in
 *                                 nanoseconds
 *     rate=N                      begin so many a second, by a timetable, whether or not those before have ended in
 *                                 time; how long one takes is counted from when it was due
 *     bin=N                       besides, a line for each N milliseconds: count, failures and the worst that ended then
 *     failures=N                  give up when more connections than that have failed (-1: never)
 *     patience=N                  a connection that gets no further for N milliseconds has failed
 *   traffic poll CPU ADDRESS PORT now and then a connection with a byte there and back, until stdin ends; prints the
 *                                 answer whenever it is another one ("-": none), and CLOCK_MONOTONIC in nanoseconds:
 *                                 when it came, or when the first to get none was sent
 *   traffic dial CPU              who answers, connection by connection; traffic watch CPU: when somebody begins to
 *                                 answer, or ceases to (whom.h has what stdin and stdout are like)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <linux/sockios.h>

#include "net.h"
#include "samples.h"
#include "servers.h"
#include "whom.h"

enum {
	MOST_TARGETS = 1 << 17,
	WARM_UP = 200,
	WARM_UP_NS = 100000000,
	MOST_FAILURES = 100,
	PATIENCE_MS = 50,
	BREATH_US = 300,
	REQUESTS = 100
};

enum kind { CONNECT, RATE, REQUEST, HUNDRED, FLOW_EACH, EMPTY, KINDS };

static const char *const names[KINDS] = { "connect", "rate", "request", "hundred", "flow", "empty" };

/* How it is measured. Times in nanoseconds, `rate` per second (0: as fast as it goes). */
struct pace {
	double seconds, rate;
	uint64_t bin;
	long failures, patience_ms;
};

struct client {
	enum kind kind;
	const struct pace *pace;
	const struct target *targets;
	size_t known;
	int fd; /* of the one connection, where it is kept */
	struct samples samples;
};

static size_t read_targets(struct target *targets)
{
	char address[64], port[16];
	size_t known = 0;

	while (known < MOST_TARGETS && scanf("%63s %15s", address, port) == 2)
		targets[known++] = target_of(address, port);
	if (!known) {
		errno = EDESTADDRREQ;
		fail("stdin");
	}
	return known;
}

static int opened(const struct client *client, const struct target *to)
{
	const int fd = socket_for(to, 0);

	if (client->pace->patience_ms) {
		const struct timeval patience = { client->pace->patience_ms / 1000,
						  client->pace->patience_ms % 1000 * 1000 };

		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	}
	return fd;
}

static int flow_over(int fd)
{
	static char buffer[FLOW];
	size_t sent = 0;
	ssize_t some;

	while (sent < FLOW) {
		some = send(fd, buffer + sent, FLOW - sent, MSG_NOSIGNAL);
		if (some <= 0)
			return 0;
		sent += (size_t)some;
	}
	return recv(fd, buffer, 1, 0) == 1;
}

static void count(struct client *client, int is_counted, uint64_t from, uint64_t to, int failed)
{
	if (is_counted)
		sampled(&client->samples, from, to, failed);
	else if (failed)
		client->samples.failures++;
	if (failed && client->pace->failures >= 0 && client->samples.failures > (size_t)client->pace->failures)
		fail("too many connections failed, the last one");
}

/* One connection, or one request on the one that is kept; `due` is when it should have begun, 0 for now. */
static void turn(struct client *client, const struct target *to, uint64_t due, int is_counted)
{
	uint64_t from = due ? due : now();
	int failed = 0, fd;

	if (client->kind == EMPTY) {
		count(client, is_counted, from, now(), 0);
		return;
	}
	if (client->kind == REQUEST) {
		if (!there_and_back(client->fd))
			fail("no answer");
		count(client, is_counted, from, now(), 0);
		return;
	}
	fd = opened(client, to);
	if (client->kind == CONNECT && !due)
		from = now();
	failed = dial(fd, to);
	if (client->kind == HUNDRED) {
		for (int i = 0; i < REQUESTS && !failed; i++) {
			failed = !there_and_back(fd);
			if (i < REQUESTS - 1 && !failed) {
				const uint64_t at = now();

				count(client, is_counted, from, at, 0);
				from = at;
			}
		}
	} else if (!failed && client->kind == RATE) {
		failed = !there_and_back(fd);
	} else if (!failed && client->kind == FLOW_EACH) {
		failed = !flow_over(fd);
	}
	count(client, is_counted, from, now(), failed);
	close(fd);
}

static void await(uint64_t due)
{
	const struct timespec at = { (time_t)(due / 1000000000), (long)(due % 1000000000) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

/* The one connection of `request`, which may have to wait for its server. */
static int kept_connection(const struct client *client)
{
	int fd;

	for (int failures = 0; fd = opened(client, &client->targets[0]), dial(fd, &client->targets[0]);) {
		if (++failures > MOST_FAILURES)
			fail("connect");
		close(fd);
		usleep(1000);
	}
	return fd;
}

static void measure(enum kind kind, const struct pace *pace)
{
	static struct target targets[MOST_TARGETS];
	const uint64_t length = (uint64_t)(pace->seconds * 1e9);
	const uint64_t started = now();
	const long warm_up = kind == HUNDRED ? WARM_UP / REQUESTS : WARM_UP;
	uint64_t random = 88172645463325252ULL, due = 0, cpu = 0, end;
	struct client client = { .kind = kind, .pace = pace, .targets = targets, .samples = samples(pace->bin) };

	client.known = kind == EMPTY ? 1 : read_targets(targets);
	if (kind == REQUEST)
		client.fd = kept_connection(&client);
	for (long round = -warm_up;; round++) {
		/* Connections that all wait in vain would take seconds. */
		if (round < 0 && now() - started > WARM_UP_NS)
			round = 0;
		if (round == 0) {
			puts("began");
			fflush(stdout);
			client.samples.failures = 0;
			cpu = cpu_time();
			client.samples.began = now();
		}
		if (round >= 0 && pace->rate > 0) {
			due = client.samples.began + (uint64_t)((double)round * 1e9 / pace->rate);
			if (due - client.samples.began >= length)
				break;
			await(due);
		}
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		turn(&client, &targets[random % client.known], due, round >= 0);
		if (round >= 0 && pace->rate <= 0 && now() - client.samples.began >= length)
			break;
	}
	end = now();
	print_samples(&client.samples, end, cpu_time() - cpu);
}

/* What was sent and acknowledged: what still waits has not arrived. */
static void bulk(double seconds)
{
	static char buffer[PIECE];
	static struct target targets[MOST_TARGETS];
	unsigned long long bytes = 0;
	uint64_t began, end, cpu;
	int fd, waiting = 0;
	ssize_t sent;

	read_targets(targets);
	fd = socket_for(&targets[0], 0);
	if (dial(fd, &targets[0]))
		fail("connect");
	puts("began");
	fflush(stdout);
	cpu = cpu_time();
	began = now();
	do {
		sent = send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL);
		if (sent < 0)
			fail("send");
		bytes += (unsigned long long)sent;
		end = now();
	} while ((double)(end - began) < seconds * 1e9);
	if (ioctl(fd, SIOCOUTQ, &waiting))
		fail("SIOCOUTQ");
	printf("%llu 0 %.9f %.9f 0 0 0 0 0\n", bytes - (unsigned long long)waiting, (double)(end - began) / 1e9,
	       (double)(cpu_time() - cpu) / 1e9);
}

/* What one connection is answered; '-' where there is none. */
static char ask(const struct target *target)
{
	const int fd = socket_for(target, SOCK_NONBLOCK);
	struct pollfd ready = { .fd = fd, .events = POLLOUT };
	char answer = '-';

	if (!dial(fd, target) ||
	    (errno == EINPROGRESS && poll(&ready, 1, PATIENCE_MS) == 1 && !(ready.revents & (POLLERR | POLLHUP)))) {
		ready.events = POLLIN;
		if (send(fd, &answer, 1, MSG_NOSIGNAL) != 1 || poll(&ready, 1, PATIENCE_MS) != 1 ||
		    recv(fd, &answer, 1, 0) != 1)
			answer = '-';
	}
	close(fd);
	return answer;
}

static void poll_for_changes(const char *address, const char *port)
{
	const struct target target = target_of(address, port);
	struct pollfd input = { .fd = 0, .events = POLLIN };
	char before = '\0';

	while (poll(&input, 1, 0) == 0) {
		const uint64_t asked = now();
		const char answer = ask(&target);

		if (answer != before) {
			printf("%llu %c\n", (unsigned long long)(answer == '-' ? asked : now()), answer);
			fflush(stdout);
			before = answer;
		}
		usleep(BREATH_US);
	}
}

static void spin(void)
{
	const struct sched_param lowest = { 0 };

	if (sched_setscheduler(0, SCHED_IDLE, &lowest))
		fail("SCHED_IDLE");
	for (;;)
		__asm__ volatile("" ::: "memory");
}

/* Of the words after the first three. */
static int read_pace(struct pace *pace, int count, char **words)
{
	for (int i = 0; i < count; i++) {
		const char *value = strchr(words[i], '=');

		if (!value)
			return 0;
		value++;
		if (!strncmp(words[i], "rate=", 5))
			pace->rate = atof(value);
		else if (!strncmp(words[i], "bin=", 4))
			pace->bin = (uint64_t)(atof(value) * 1e6);
		else if (!strncmp(words[i], "failures=", 9))
			pace->failures = atol(value);
		else if (!strncmp(words[i], "patience=", 9))
			pace->patience_ms = atol(value);
		else
			return 0;
	}
	return 1;
}

int main(int argc, char **argv)
{
	const char *word = argc > 2 ? argv[1] : "";
	struct pace pace = { .failures = MOST_FAILURES };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_TIMERSLACK, 1);
	if (argc > 2)
		stay_on(atoi(argv[2]));
	if (argc == 3 && !strcmp(word, "spin"))
		spin();
	if (argc == 5 && !strcmp(word, "serve"))
		serve(atoi(argv[3]), argv[4][0]);
	if (argc == 4 && !strcmp(word, "tell"))
		serve(atoi(argv[3]), '\0');
	if (argc == 4 && !strcmp(word, "absorb"))
		absorb(atoi(argv[3]));
	if (argc == 4 && (!strcmp(word, "sink") || !strcmp(word, "gulp")))
		sink(atoi(argv[3]), !strcmp(word, "gulp"));
	if (argc == 4 && !strcmp(word, "bulk")) {
		bulk(atof(argv[3]));
		return 0;
	}
	if (argc == 3 && !strcmp(word, "dial")) {
		dial_each();
		return 0;
	}
	if (argc == 3 && !strcmp(word, "watch")) {
		watch();
		return 0;
	}
	if (argc == 5 && !strcmp(word, "poll")) {
		poll_for_changes(argv[3], argv[4]);
		return 0;
	}
	for (enum kind kind = 0; kind < KINDS && argc > 3; kind++) {
		pace.seconds = atof(argv[3]);
		if (!strcmp(word, names[kind]) && read_pace(&pace, argc - 4, argv + 4)) {
			measure(kind, &pace);
			return 0;
		}
	}
	fputs("traffic: spin, serve, tell, absorb, sink, gulp, a kind of measurement, bulk, dial, watch or poll, "
	      "then "
	      "the CPU\n",
	      stderr);
	return 2;
}
