/* A client's connection: TCP or a UNIX socket, TLS, HTTP CONNECT, and what its role does. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER_SIZE 4096
#define ERROR_SIZE 200
#define ERROR_KINDS 8
#define RECORD 16384 /* of TLS, octets at most */

struct route route = {.base = 9000};
struct counts counts;

static SSL_CTX *context;
static struct {
    char text[ERROR_SIZE];
    uint64_t count;
} errors[ERROR_KINDS];
static int error_kinds;

void prepare_tls(void) {
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 128 * 1024);
    if (route.ca) {
        if (!SSL_CTX_load_verify_locations(context, route.ca, NULL)) die("cannot read %s", route.ca);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    }
    if (route.cert && (!SSL_CTX_use_certificate_chain_file(context, route.cert) ||
                       !SSL_CTX_use_PrivateKey_file(context, route.key, SSL_FILETYPE_PEM)))
        die("cannot read the client's certificate or its key");
}

static void note_error(const char *when, const char *what) {
    char text[ERROR_SIZE];
    snprintf(text, sizeof text, "%s: %s", when, what);
    for (char *p = text; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < 32) *p = ' ';
    for (int i = 0; i < error_kinds; i++)
        if (!strcmp(errors[i].text, text)) {
            errors[i].count++;
            return;
        }
    if (error_kinds == ERROR_KINDS) return;
    strcpy(errors[error_kinds].text, text);
    errors[error_kinds++].count = 1;
}

void print_errors(void) {
    printf(",\"errors\":{");
    for (int i = 0; i < error_kinds; i++)
        printf("%s\"%s\":%lu", i ? "," : "", errors[i].text, errors[i].count);
    printf("}");
}

static void note_latency(uint64_t since) {
    if (counts.latency_count == counts.latency_room) {
        counts.latency_room = counts.latency_room ? counts.latency_room * 2 : 65536;
        counts.latencies = realloc(counts.latencies, counts.latency_room * sizeof *counts.latencies);
    }
    counts.latencies[counts.latency_count++] = now() - since;
}

static void arm(struct connection *c, uint32_t events) {
    if (c->armed == events) return;
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll, c->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event);
    c->armed = events;
}

void close_connection(struct connection *c, const char *error) {
    if (c->state == S_DEAD) return;
    if (error) {
        int open = c->state == S_OPEN;
        *(open ? &counts.reset : &counts.failed) += 1;
        note_error(open ? "open" : "opening", error);
    }
    if (c->ssl) {
        if (!error) SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
        c->ssl = NULL;
        ERR_clear_error();
    }
    close(c->fd);
    free(c->header);
    c->header = NULL;
    c->state = S_DEAD;
}

static int tls_result(struct connection *c, int result) {
    if (result > 0) return result;
    int error = SSL_get_error(c->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return -1;
    ERR_clear_error();
    return error == SSL_ERROR_ZERO_RETURN ? 0 : -2;
}

/* Octets, 0 at the end, -1 later, -2 error. */
static int read_some(struct connection *c, void *octets, int count) {
    if (c->ssl) return tls_result(c, SSL_read(c->ssl, octets, count));
    ssize_t n = recv(c->fd, octets, count, 0);
    return n >= 0 ? (int)n : errno == EAGAIN ? -1 : -2;
}

int write_some(struct connection *c, const void *octets, int count) {
    if (c->ssl) {
        int n = tls_result(c, SSL_write(c->ssl, octets, count));
        return n ? n : -2;
    }
    ssize_t n = send(c->fd, octets, count, MSG_NOSIGNAL);
    return n >= 0 ? (int)n : errno == EAGAIN ? -1 : -2;
}

/* HOST:PORT of a service: "{s}" in route.dest becomes its port. */
static void destination(enum service service, char *text, size_t size) {
    char *mark = strstr(route.dest, "{s}");
    if (mark)
        snprintf(text, size, "%.*s%d%s", (int)(mark - route.dest), route.dest, route.base + service, mark + 3);
    else
        snprintf(text, size, "%s", route.dest);
}

static int connect_unix(struct connection *c, const char *path) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    return connect(c->fd, (void *)&name, sizeof name);
}

static int connect_tcp(struct connection *c, const char *target) {
    const char *colon = strrchr(target, ':');
    if (!colon) die("want HOST:PORT, got %s", target);
    char host[100];
    snprintf(host, sizeof host, "%.*s", (int)(colon - target), target);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
    if (inet_pton(AF_INET, host, &name.sin_addr) != 1) die("want an IPv4 address, got %s", host);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return connect(c->fd, (void *)&name, sizeof name);
}

struct connection *open_connection(enum role role, enum service service) {
    struct connection *c = calloc(1, sizeof *c);
    c->role = role;
    c->started = now();
    char dest[128];
    destination(service, dest, sizeof dest);
    const char *target = route.connect ? route.proxy : dest;
    int result = strncmp(target, "unix:", 5) ? connect_tcp(c, target) : connect_unix(c, target + 5);
    if (result < 0 && errno != EINPROGRESS) {
        close_connection(c, strerror(errno));
        return c;
    }
    c->header = malloc(HEADER_SIZE);
    if (route.connect)
        c->out_length = snprintf(c->header, HEADER_SIZE, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", dest, dest);
    arm(c, EPOLLIN | EPOLLOUT);
    return c;
}

static void send_message(struct connection *c) {
    memset(c->message, 0, MESSAGE_SIZE);
    c->sequence++;
    memcpy(c->message, &c->sequence, 4);
    memcpy(c->message + 4, &c->fd, 4);
    c->message_length = 0;
    c->sent_at = now();
    if (write_some(c, c->message, MESSAGE_SIZE) != MESSAGE_SIZE) close_connection(c, "short write of a message");
}

static void run_down(struct connection *c) {
    for (int i = 0; i < (c->ssl ? 64 : 4); i++) {
        int n = read_some(c, buffer, BUFFER_SIZE);
        if (n == -1) return;
        if (n <= 0) {
            close_connection(c, n ? "reset" : "EOF");
            return;
        }
        c->down += n;
        counts.down += n;
    }
    if (!c->hot) { /* TLS may hold more that epoll knows nothing of */
        c->hot = 1;
        c->next_hot = hot;
        hot = c;
    }
}

static void run_up(struct connection *c) {
    char acks[4096];
    int n;
    while ((n = read_some(c, acks, sizeof acks)) > 0)
        for (int i = 0; i < n; i++) {
            c->ack[c->ack_length++] = acks[i];
            if (c->ack_length == 8) {
                memcpy(&c->acked, c->ack, 8);
                c->ack_length = 0;
            }
        }
    if (n != -1) {
        close_connection(c, n ? "reset" : "EOF");
        return;
    }
    for (int i = 0; i < (c->ssl ? 16 : 4); i++) {
        n = write_some(c, buffer, c->ssl ? RECORD : BUFFER_SIZE);
        if (n == -1) return;
        if (n < 0) {
            close_connection(c, "reset");
            return;
        }
        c->up += n;
        counts.up += n;
    }
}

static void run_push(struct connection *c) {
    for (int i = 0; i < 16; i++) {
        int n = write_some(c, buffer, RECORD);
        if (n == -1) return;
        if (n < 0) {
            close_connection(c, "reset");
            return;
        }
        c->up += n;
    }
}

static void run_echo(struct connection *c) {
    unsigned char echo[MESSAGE_SIZE];
    while (c->state == S_OPEN) {
        int at = c->message_length, n = read_some(c, echo + at, MESSAGE_SIZE - at);
        if (n == -1) return;
        if (n <= 0 || memcmp(echo + at, c->message + at, n)) {
            close_connection(c, n > 0 ? "the echo differs" : n ? "reset" : "EOF");
            return;
        }
        c->message_length += n;
        counts.down += n;
        if (c->message_length < MESSAGE_SIZE) continue;
        note_latency(c->sent_at);
        counts.done++;
        counts.up += MESSAGE_SIZE;
        send_message(c);
    }
}

static void run_single(struct connection *c) {
    char octets[16];
    int n = read_some(c, octets, sizeof octets);
    if (n == -1) return;
    if (n <= 0) {
        close_connection(c, n ? "reset" : "EOF");
        return;
    }
    c->got_reply += n;
    note_latency(c->started);
    counts.done++;
    if (c->role == R_ONCE) close_connection(c, NULL);
}

static void run_role(struct connection *c) {
    switch (c->role) {
    case R_DOWN: run_down(c); break;
    case R_UP: run_up(c); break;
    case R_PUSH: run_push(c); break;
    case R_ECHO: run_echo(c); break;
    case R_ONCE:
    case R_IDLE: run_single(c); break;
    case R_STALL: break;
    }
}

static void begin_role(struct connection *c) {
    static const uint32_t events[] = {
        [R_DOWN] = EPOLLIN, [R_UP] = EPOLLIN | EPOLLOUT, [R_ECHO] = EPOLLIN,   [R_ONCE] = EPOLLIN,
        [R_IDLE] = EPOLLIN, [R_STALL] = EPOLLRDHUP,      [R_PUSH] = EPOLLOUT,
    };
    c->state = S_OPEN;
    counts.opened++;
    free(c->header);
    c->header = NULL;
    arm(c, events[c->role]);
    if (c->role == R_ECHO) send_message(c);
    else if (c->role != R_UP && c->role != R_PUSH && write_some(c, "x", 1) != 1)
        close_connection(c, "short write of one octet");
    if (c->state == S_OPEN && c->role != R_STALL && c->role != R_PUSH) run_role(c);
}

/* The steps of opening give 1 when they have come further. */

static int finish_tcp(struct connection *c) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    struct sockaddr_storage name;
    socklen_t name_length = sizeof name;
    if (error) close_connection(c, strerror(error));
    if (error || getpeername(c->fd, (void *)&name, &name_length)) return 0;
    c->state = S_REQUEST;
    if (route.tls) {
        c->state = S_TLS;
        c->ssl = SSL_new(context);
        SSL_set_fd(c->ssl, c->fd);
        if (route.sni) {
            SSL_set_tlsext_host_name(c->ssl, route.sni);
            SSL_set1_host(c->ssl, route.sni);
        }
        SSL_set_connect_state(c->ssl);
    }
    return 1;
}

static int finish_tls(struct connection *c) {
    int result = SSL_do_handshake(c->ssl);
    if (result == 1) {
        c->state = S_REQUEST;
        return 1;
    }
    int error = SSL_get_error(c->ssl, result);
    if (error == SSL_ERROR_WANT_READ) arm(c, EPOLLIN);
    else if (error == SSL_ERROR_WANT_WRITE) arm(c, EPOLLIN | EPOLLOUT);
    else {
        char text[120];
        ERR_error_string_n(ERR_get_error(), text, sizeof text);
        close_connection(c, text);
    }
    return 0;
}

static int send_request(struct connection *c) {
    if (!route.connect) {
        begin_role(c);
        return 0;
    }
    int n = write_some(c, c->header + c->out_offset, c->out_length - c->out_offset);
    if (n == -1) arm(c, EPOLLIN | EPOLLOUT);
    else if (n < 0) close_connection(c, "write of the request");
    if (n < 0) return 0;
    c->out_offset += n;
    if (c->out_offset < c->out_length) return 1;
    c->header_length = 0;
    c->state = S_RESPONSE;
    arm(c, EPOLLIN);
    return 1;
}

static int read_response(struct connection *c) {
    int n = read_some(c, c->header + c->header_length, HEADER_SIZE - 1 - c->header_length);
    if (n == -1) return 0;
    if (n <= 0) {
        close_connection(c, n ? "reset before the response" : "EOF before the response");
        return 0;
    }
    c->header_length += n;
    c->header[c->header_length] = 0;
    char *end = memmem(c->header, c->header_length, "\r\n\r\n", 4);
    if (!end) {
        if (c->header_length < HEADER_SIZE - 1) return 1;
        close_connection(c, "response without end");
        return 0;
    }
    if (strncmp(c->header, "HTTP/1.", 7) || strncmp(c->header + 8, " 200", 4)) {
        close_connection(c, c->header);
        return 0;
    }
    int beyond = c->header_length - (int)(end + 4 - c->header);
    c->down += beyond;
    counts.down += beyond;
    begin_role(c);
    return 0;
}

void advance(struct connection *c) {
    int further = 1;
    while (further) switch (c->state) {
        case S_TCP: further = finish_tcp(c); break;
        case S_TLS: further = finish_tls(c); break;
        case S_REQUEST: further = send_request(c); break;
        case S_RESPONSE: further = read_response(c); break;
        case S_OPEN: run_role(c); return;
        case S_DEAD: return;
        }
}
