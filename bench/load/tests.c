/* The tests. Each prints JSON objects, one a line, the result last. */
#include "load.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#define SECOND 1000000000ull
#define MAX_VICTIMS 64
#define STUCK (2 * SECOND) /* a connection that takes longer to open */

struct connection *hot;

static struct options options;
static struct connection **connections;
static int connection_count;

static uint64_t nanoseconds(double seconds) { return (uint64_t)(seconds * SECOND); }

static void take_event(struct connection *c, uint32_t events) {
    if (!c || c->state == S_DEAD) return;
    if (c->role != R_STALL || c->state != S_OPEN) advance(c);
    else if (events & (EPOLLERR | EPOLLHUP)) close_connection(c, "a stalled connection was reset");
    else { /* the peer has half-closed: no more of that */
        struct epoll_event none = {.events = EPOLLERR, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &none);
    }
}

void loop(uint64_t until, int (*enough)(void)) {
    struct epoll_event events[256];
    while (now() < until && !(enough && enough())) {
        int64_t left = (int64_t)(until - now()) / 1000000;
        int patience = hot || left < 0 ? 0 : left > 50 ? 50 : (int)left + 1;
        int n = epoll_wait(epoll, events, 256, patience);
        struct connection *next = hot;
        hot = NULL;
        while (next) {
            struct connection *c = next;
            next = c->next_hot;
            c->hot = 0;
            if (c->state == S_OPEN) advance(c);
        }
        for (int i = 0; i < n; i++) take_event(events[i].data.ptr, events[i].events);
    }
}

static int by_value(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return a < b ? -1 : a > b;
}

static double quantile(double share) {
    return counts.latencies[(uint64_t)((counts.latency_count - 1) * share)] / 1e6;
}

static void print_latencies(void) {
    if (!counts.latency_count) {
        printf(",\"ms\":null");
        return;
    }
    qsort(counts.latencies, counts.latency_count, sizeof *counts.latencies, by_value);
    printf(",\"ms\":{\"n\":%lu,\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f}", counts.latency_count,
           quantile(.5), quantile(.9), quantile(.99), quantile(1));
}

static void print_end(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf(",\"opened\":%lu,\"failed\":%lu,\"reset\":%lu,\"client_cpu_s\":%.3f", counts.opened, counts.failed,
           counts.reset, cpu);
    print_errors();
    printf("}\n");
    fflush(stdout);
}

static void open_all(enum role role, enum service service) {
    for (int i = 0; i < connection_count; i++) connections[i] = open_connection(role, service);
}

static int all_open(void) {
    for (int i = 0; i < connection_count; i++)
        if (connections[i]->state < S_OPEN) return 0;
    return 1;
}

static int all_replied(void) {
    for (int i = 0; i < connection_count; i++)
        if (connections[i] && connections[i]->state != S_DEAD && !connections[i]->got_reply) return 0;
    return 1;
}

static void open_and_warm_up(enum role role, enum service service) {
    open_all(role, service);
    loop(now() + nanoseconds(options.timeout), all_open);
    loop(now() + nanoseconds(options.warm_up), NULL);
}

static uint64_t carried(const struct connection *c, int up) { return up ? c->acked : c->down; }

static void test_flow(int up) {
    open_and_warm_up(up ? R_UP : R_DOWN, up ? SINK : SOURCE);
    uint64_t *before = calloc(connection_count, sizeof *before);
    for (int i = 0; i < connection_count; i++) before[i] = carried(connections[i], up);
    uint64_t started = now();
    loop(started + nanoseconds(options.seconds), NULL);
    double seconds = (double)(now() - started) / SECOND, total = 0, squares = 0;
    for (int i = 0; i < connection_count; i++) {
        double octets = carried(connections[i], up) - before[i];
        total += octets;
        squares += octets * octets;
    }
    double jain = squares ? total * total / (connection_count * squares) : 0;
    printf("{\"test\":\"%s\",\"n\":%d,\"secs\":%.3f,\"MBps\":%.2f,\"bytes_total\":%lu,\"jain\":%.4f", up ? "up" : "down",
           connection_count, seconds, total / seconds / 1e6, up ? counts.up : counts.down, jain);
    print_end();
}

static void test_echo(void) {
    open_and_warm_up(R_ECHO, ECHO);
    counts.latency_count = 0;
    uint64_t started = now();
    loop(started + nanoseconds(options.seconds), NULL);
    double seconds = (double)(now() - started) / SECOND;
    printf("{\"test\":\"echo\",\"n\":%d,\"secs\":%.3f,\"rt_per_s\":%.1f,\"done\":%lu", connection_count, seconds,
           counts.latency_count / seconds, counts.done);
    print_latencies();
    print_end();
}

/* Opens a connection in the place of each that is done, `options.count` in all if that is not 0. */
static void test_connect(void) {
    open_all(R_ONCE, ECHO);
    uint64_t started = now(), end = started + nanoseconds(options.seconds);
    int begun = connection_count, live = connection_count;
    while (now() < end && live) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll, events, 256, 20);
        for (int i = 0; i < n; i++) take_event(events[i].data.ptr, events[i].events);
        for (int i = 0; i < connection_count; i++) {
            if (!connections[i] || connections[i]->state != S_DEAD) continue;
            free(connections[i]);
            connections[i] = NULL;
            live--;
            if (options.count && begun >= options.count) continue;
            connections[i] = open_connection(R_ONCE, ECHO);
            begun++;
            live++;
        }
    }
    double seconds = (double)(now() - started) / SECOND;
    int stuck = 0;
    for (int i = 0; i < connection_count; i++)
        stuck += connections[i] && connections[i]->state != S_DEAD && now() - connections[i]->started > STUCK;
    printf("{\"test\":\"connect\",\"n\":%d,\"secs\":%.3f,\"conn_per_s\":%.1f,\"done\":%lu,\"stuck\":%d", connection_count,
           seconds, counts.done / seconds, counts.done, stuck);
    print_latencies();
    print_end();
}

static int opening_few(void) {
    static int settled; /* those before it have replied or are dead: they need no second look */
    int opening = 0;
    while (settled < connection_count && connections[settled] &&
           (connections[settled]->got_reply || connections[settled]->state == S_DEAD))
        settled++;
    for (int i = settled; i < connection_count && connections[i]; i++)
        opening += connections[i]->state != S_DEAD && !connections[i]->got_reply;
    return opening < options.opening;
}

/* Holds the connections until a line or the end of stdin, then sees whether each still works. */
static void test_idle(void) {
    uint64_t started = now(), end = started + nanoseconds(options.timeout);
    for (int i = 0; i < connection_count; i++) {
        loop(end, opening_few);
        connections[i] = open_connection(R_IDLE, ECHO);
    }
    loop(end, all_replied);
    double seconds = (double)(now() - started) / SECOND;
    printf("{\"event\":\"ready\",\"opened\":%lu,\"open_s\":%.3f}\n", counts.done, seconds);
    fflush(stdout);
    struct pollfd input = {.events = POLLIN};
    while (poll(&input, 1, 0) <= 0) loop(now() + SECOND / 20, NULL);
    uint64_t first = counts.done;
    for (int i = 0; i < connection_count; i++) {
        struct connection *c = connections[i];
        if (c->state != S_OPEN || !c->got_reply) continue;
        c->got_reply = 0;
        if (write_some(c, "y", 1) != 1) close_connection(c, "write after idling");
    }
    loop(now() + 10 * SECOND, all_replied);
    printf("{\"test\":\"idle\",\"n\":%d,\"answered_first\":%lu,\"open_s\":%.3f,\"alive_after\":%lu", connection_count, first,
           seconds, counts.done - first);
    for (int i = 0; i < connection_count; i++) close_connection(connections[i], NULL);
    print_end();
}

static struct connection *victims[MAX_VICTIMS], *echoing;

static uint64_t victims_carried(void) {
    uint64_t total = 0;
    for (int i = 0; i < options.victims; i++) total += carried(victims[i], options.push);
    return total;
}

/* What those beside the stalled ones get done, and how long a new connection takes (-1: too long). */
static void measure_phase(const char *name, double seconds) {
    printf("{\"event\":\"phase\",\"name\":\"%s\"}\n", name);
    fflush(stdout);
    uint64_t before = victims_carried(), done = counts.done, started = now(), opened = 0;
    counts.latency_count = 0;
    struct connection *probe = options.victims ? open_connection(R_ONCE, ECHO) : NULL;
    while (now() < started + nanoseconds(seconds)) {
        loop(now() + (probe && !opened ? SECOND / 2000 : SECOND / 100), NULL);
        if (probe && probe->state == S_DEAD && !opened) opened = now() - started;
    }
    double took = (double)(now() - started) / SECOND;
    printf("{\"event\":\"phase_result\",\"name\":\"%s\",\"secs\":%.2f,\"victim_MBps\":%.2f,\"echoes\":%lu", name, took,
           (victims_carried() - before) / took / 1e6, counts.done - done);
    if (probe) printf(",\"new_conn_ms\":%.1f", opened ? opened / 1e6 : -1.0);
    print_latencies();
    printf("}\n");
    fflush(stdout);
}

static void test_stall(void) {
    for (int i = 0; i < options.victims; i++)
        victims[i] = open_connection(options.push ? R_UP : R_DOWN, options.push ? SINK : SOURCE);
    if (options.victims) echoing = open_connection(R_ECHO, ECHO);
    loop(now() + SECOND, NULL);
    if (options.victims) measure_phase("before", options.seconds / 2);
    connection_count = options.stalled;
    open_all(options.push ? R_PUSH : R_STALL, options.push ? HOLE : SOURCE);
    loop(now() + 2 * SECOND, all_open);
    loop(now() + SECOND, NULL);
    measure_phase("stalled", options.seconds);
    uint64_t pushed = 0;
    for (int i = 0; i < connection_count; i++) {
        pushed += connections[i]->up;
        close_connection(connections[i], NULL);
    }
    loop(now() + SECOND, NULL);
    if (options.victims) measure_phase("after", options.seconds / 2);
    printf("{\"test\":\"stall\",\"n\":%d,\"pushed\":%lu", connection_count, pushed);
    print_end();
}

void run_test(const char *name, const struct options *given) {
    options = *given;
    if (options.victims > MAX_VICTIMS) die("at most %d victims", MAX_VICTIMS);
    connection_count = options.connections;
    int room = options.connections > options.stalled ? options.connections : options.stalled;
    connections = calloc(room, sizeof *connections);
    if (!strcmp(name, "down")) test_flow(0);
    else if (!strcmp(name, "up")) test_flow(1);
    else if (!strcmp(name, "echo")) test_echo();
    else if (!strcmp(name, "connect")) test_connect();
    else if (!strcmp(name, "idle")) test_idle();
    else if (!strcmp(name, "stall")) test_stall();
    else die("no test %s", name);
}
