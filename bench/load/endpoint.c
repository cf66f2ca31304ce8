/* The endpoint: four services on consecutive ports.
 *   source  from the first octet it gets on, sends zeros for as long as the peer takes them
 *   sink    discards; every ACK_EVERY octets answers the total, 8 octets little-endian
 *   echo    sends back what it gets
 *   hole    accepts and never reads
 */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACK_EVERY (256u * 1024)
#define ECHO_SIZE 65536

struct peer {
    int fd, listens;
    enum service service;
    uint64_t got, acked;
    char *pending;               /* what an echo could not send yet */
    int pending_length, pending_offset;
};

static int zeros; /* a file of BUFFER_SIZE of them */

static void watch(struct peer *p, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = p};
    epoll_ctl(epoll, operation, p->fd, &event);
}

static void close_peer(struct peer *p) {
    close(p->fd);
    free(p->pending);
    free(p);
}

static void serve_source(struct peer *p, uint32_t events) {
    if (events & EPOLLIN) {
        ssize_t n = recv(p->fd, buffer, sizeof buffer, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            close_peer(p);
            return;
        }
        if (n > 0 && !p->got) {
            p->got = 1;
            watch(p, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
        }
    }
    for (int i = 0; p->got && i < 4; i++) {
        off_t offset = 0;
        if (sendfile(p->fd, zeros, &offset, BUFFER_SIZE) < 0) {
            if (errno != EAGAIN) close_peer(p);
            return;
        }
    }
}

static void serve_sink(struct peer *p) {
    for (int i = 0; i < 8; i++) {
        ssize_t n = recv(p->fd, NULL, 1 << 22, MSG_TRUNC); /* TCP: discards without copying */
        if (n < 0 && errno == EAGAIN) return;
        if (n > 0) p->got += n;
        uint64_t total = p->got;
        if (n <= 0 || total - p->acked >= ACK_EVERY) {
            if (n >= 0 && send(p->fd, &total, 8, MSG_NOSIGNAL) == 8) p->acked = total;
        }
        if (n <= 0) {
            close_peer(p);
            return;
        }
    }
}

/* Whether nothing is left to be sent; the peer may be gone otherwise. */
static int flush_echo(struct peer *p) {
    if (!p->pending_length) return 1;
    ssize_t n = send(p->fd, p->pending + p->pending_offset, p->pending_length, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN) close_peer(p);
        return 0;
    }
    p->pending_offset += n;
    p->pending_length -= n;
    if (p->pending_length) return 0;
    watch(p, EPOLL_CTL_MOD, EPOLLIN);
    return 1;
}

static void serve_echo(struct peer *p) {
    for (int i = 0; i < 8; i++) {
        if (!flush_echo(p)) return;
        ssize_t n = recv(p->fd, buffer, ECHO_SIZE, 0);
        if (n < 0 && errno == EAGAIN) return;
        ssize_t sent = n > 0 ? send(p->fd, buffer, n, MSG_NOSIGNAL) : 0;
        if (n <= 0 || (sent < 0 && errno != EAGAIN)) {
            close_peer(p);
            return;
        }
        if (sent < 0) sent = 0;
        if (sent < n) {
            if (!p->pending) p->pending = malloc(ECHO_SIZE);
            memcpy(p->pending, buffer + sent, n - sent);
            p->pending_offset = 0;
            p->pending_length = n - sent;
            watch(p, EPOLL_CTL_MOD, EPOLLOUT);
            return;
        }
        if (n < ECHO_SIZE) return;
    }
}

static void accept_some(struct peer *listener) {
    for (int i = 0; i < 64; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK), one = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (listener->service == HOLE) continue; /* kept open, never read */
        struct peer *p = calloc(1, sizeof *p);
        p->fd = fd;
        p->service = listener->service;
        watch(p, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void listen_at(const char *address, int port, enum service service) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &name.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&name, sizeof name) || listen(fd, 4096))
        die("cannot listen on %s:%d: %s", address, port, strerror(errno));
    struct peer *p = calloc(1, sizeof *p);
    p->fd = fd;
    p->service = service;
    p->listens = 1;
    watch(p, EPOLL_CTL_ADD, EPOLLIN);
}

static void serve(struct peer *p, uint32_t events) {
    if (p->listens) accept_some(p);
    else if (events & EPOLLERR) close_peer(p);
    else if (p->service == SOURCE) serve_source(p, events);
    else if (p->service == SINK) serve_sink(p);
    else serve_echo(p);
}

noreturn void run_endpoint(const char *address, int base) {
    zeros = memfd_create("zeros", 0);
    if (zeros < 0 || write(zeros, buffer, BUFFER_SIZE) != BUFFER_SIZE) die("no file of zeros");
    for (enum service service = SOURCE; service < SERVICES; service++)
        listen_at(address, base + service, service);
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) serve(events[i].data.ptr, events[i].events);
    }
}
