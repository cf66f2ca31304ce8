/* The load program's parts; see main.c for its use. One thread, epoll, nothing blocks once it runs. */
#ifndef LOAD_H
#define LOAD_H

#include <openssl/ssl.h>
#include <stdint.h>
#include <stdnoreturn.h>

#define BUFFER_SIZE (256 * 1024)
#define MESSAGE_SIZE 64

enum service { SOURCE, SINK, ECHO, HOLE, SERVICES };

/* What a client's connection does once it is open: read, write with acknowledgements, exchange messages,
 * exchange one octet and close, exchange one octet and stay, read nothing, write without end. */
enum role { R_DOWN, R_UP, R_ECHO, R_ONCE, R_IDLE, R_STALL, R_PUSH };
enum state { S_TCP, S_TLS, S_REQUEST, S_RESPONSE, S_OPEN, S_DEAD };

struct connection {
    int fd;
    enum role role;
    enum state state;
    SSL *ssl;
    uint32_t armed;              /* events it is registered for */
    uint64_t started, sent_at;   /* ns */
    uint64_t down, up, acked;    /* octets */
    uint32_t sequence;           /* of its messages */
    unsigned char message[MESSAGE_SIZE];
    int message_length;          /* of the echo, so far */
    char ack[8];
    int ack_length;
    char *header;                /* request, then response */
    int header_length, out_offset, out_length;
    int got_reply;
    int hot;                     /* it has more to read */
    struct connection *next_hot;
};

struct route {
    int connect, tls;            /* by HTTP CONNECT; with TLS to the proxy */
    char *proxy, *dest, *ca, *cert, *key, *sni;
    int base;                    /* what "{s}" in dest is counted from */
};

struct counts {
    uint64_t opened, failed, done, reset, down, up;
    uint64_t *latencies, latency_count, latency_room;
};

/* main.c */
extern int epoll;
extern char buffer[BUFFER_SIZE];
uint64_t now(void);              /* ns */
noreturn void die(const char *format, ...);

/* endpoint.c */
noreturn void run_endpoint(const char *address, int base);

/* connection.c */
extern struct route route;
extern struct counts counts;
void prepare_tls(void);
struct connection *open_connection(enum role role, enum service service);
void close_connection(struct connection *c, const char *error);
void advance(struct connection *c);
int write_some(struct connection *c, const void *octets, int count); /* count, -1 later, -2 error */
void print_errors(void);

/* tests.c */
extern struct connection *hot; /* those with more to read than epoll knows of */
struct options {
    int connections, opening, victims, stalled, push, count;
    double seconds, warm_up, timeout;
};
void run_test(const char *name, const struct options *options);
void loop(uint64_t until, int (*enough)(void)); /* until then (ns), or until it is enough */

#endif
