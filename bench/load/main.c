/* The load program: an endpoint, and clients of it through a tunnel.
 *
 *   load endpoint --bind ADDRESS --base PORT
 *   load TEST --dest HOST:PORT [--proxy HOST:PORT|unix:PATH] [--tls …] [OPTION…]
 *
 *   TEST     down up echo connect idle stall
 *   --dest   "{s}" in it stands for --base plus the number of the service that the test uses
 *   --proxy  HTTP CONNECT; else --dest is connected to
 *   --tls    to the proxy: --ca F --cert F --key F --sni NAME
 */
#include "load.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

int epoll;
char buffer[BUFFER_SIZE];

uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000ull + time.tv_nsec;
}

noreturn void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static void raise_file_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv) {
    static const struct option names[] = {
        {"bind", 1, 0, 'B'},    {"base", 1, 0, 'b'},     {"dest", 1, 0, 'd'},    {"proxy", 1, 0, 'p'},
        {"tls", 0, 0, 't'},     {"ca", 1, 0, 'a'},       {"cert", 1, 0, 'c'},    {"key", 1, 0, 'k'},
        {"sni", 1, 0, 's'},     {"n", 1, 0, 'n'},        {"secs", 1, 0, 'S'},    {"warm", 1, 0, 'w'},
        {"timeout", 1, 0, 'T'}, {"opening", 1, 0, 'o'},  {"victims", 1, 0, 'V'}, {"stalled", 1, 0, 'X'},
        {"push", 0, 0, 'U'},    {"count", 1, 0, 'C'},    {0},
    };
    struct options options = {
        .connections = 1, .opening = 64, .victims = 1, .stalled = 1, .seconds = 4, .warm_up = 0.5, .timeout = 20};
    const char *address = "127.0.0.1";
    if (argc < 2) die("usage: see the head of main.c");
    optind = 2;
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (option) {
        case 'B': address = optarg; break;
        case 'b': route.base = atoi(optarg); break;
        case 'd': route.dest = optarg; break;
        case 'p': route.proxy = optarg; route.connect = 1; break;
        case 't': route.tls = 1; break;
        case 'a': route.ca = optarg; break;
        case 'c': route.cert = optarg; break;
        case 'k': route.key = optarg; break;
        case 's': route.sni = optarg; break;
        case 'n': options.connections = atoi(optarg); break;
        case 'S': options.seconds = atof(optarg); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 'T': options.timeout = atof(optarg); break;
        case 'o': options.opening = atoi(optarg); break;
        case 'V': options.victims = atoi(optarg); break;
        case 'X': options.stalled = atoi(optarg); break;
        case 'U': options.push = 1; break;
        case 'C': options.count = atoi(optarg); break;
        default: exit(2);
        }
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    epoll = epoll_create1(0);
    if (!strcmp(argv[1], "endpoint")) run_endpoint(address, route.base);
    if (!route.dest) die("--dest is wanted");
    if (route.tls) prepare_tls();
    run_test(argv[1], &options);
    return 0;
}
