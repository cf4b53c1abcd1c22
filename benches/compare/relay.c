/* The floor: a relay that parses nothing, one epoll thread, a connection to the backend for each of a client's.
 *
 * relay PORT BACKEND [REDIS DATABASE]
 *
 * With Redis it asks for the session of every request before it passes that on: it looks for "sessionid=" in the bytes,
 * asks on one connection, as many at once as there are, and puts the answer into a header after the request line. That is
 * what sessions from a store cost at the least. It takes what comes in one read as one request. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 16384, MAX_FILES = 65536, ID = 32 };

struct end {
    int other;       /* The other side's file. */
    int client;      /* Whether this is the client's side. */
    size_t length;   /* A request that waits for Redis. */
    char *request;
};

static struct end *ends[MAX_FILES];
static int poller, redis = -1, backend_port;
/* Who waits for Redis, in the order of asking; a client that left meanwhile is -1. */
static int waiting[MAX_FILES];
static unsigned first, last;
static char asked[1 << 20], told[1 << 20];
static size_t asked_used, told_used;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int dial(int port, int extra) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, file = socket(AF_INET, SOCK_STREAM | extra, 0);
    if (file < 0) return -1;
    setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(file, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) die("connect");
    return file;
}

static void watch(int file) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = file};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, file, &event) < 0) die("epoll_ctl");
}

static void drop(int file) {
    int both[2] = {file, ends[file]->other};
    for (unsigned i = first; i != last; i++)
        if (waiting[i % MAX_FILES] == both[0] || waiting[i % MAX_FILES] == both[1]) waiting[i % MAX_FILES] = -1;
    for (int i = 0; i < 2; i++) {
        close(both[i]);
        free(ends[both[i]]->request);
        free(ends[both[i]]);
        ends[both[i]] = NULL;
    }
}

static void take(int listener) {
    int one = 1, file;
    while ((file = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        /* To a backend on the same machine the connection is there at once. */
        int other = dial(backend_port, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (other < 0 || other >= MAX_FILES || file >= MAX_FILES) die("too many files");
        setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        ends[file] = calloc(1, sizeof(struct end));
        ends[other] = calloc(1, sizeof(struct end));
        if (!ends[file] || !ends[other]) die("calloc");
        *ends[file] = (struct end){.other = other, .client = 1};
        *ends[other] = (struct end){.other = file};
        watch(file);
        watch(other);
    }
}

/* Asks for the session, if there is a cookie; the question leaves with all others of this turn. */
static int ask(int file, const char *bytes, size_t length) {
    const char *id = memmem(bytes, length, "sessionid=", 10);
    if (!id || (size_t)(id + 10 + ID - bytes) > length || asked_used + 128 > sizeof asked) return 0;
    asked_used += (size_t)sprintf(asked + asked_used, "*2\r\n$3\r\nGET\r\n$%d\r\nsession:%.*s\r\n", ID + 8, ID, id + 10);
    if (!(ends[file]->request = malloc(length))) die("malloc");
    memcpy(ends[file]->request, bytes, length);
    ends[file]->length = length;
    waiting[last++ % MAX_FILES] = file;
    return 1;
}

static void pass(int file) {
    static char bytes[ROOM];
    ssize_t got = read(file, bytes, sizeof bytes);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(file);
        return;
    }
    if (redis >= 0 && ends[file]->client && ask(file, bytes, (size_t)got)) return;
    if (write(ends[file]->other, bytes, (size_t)got) != got) drop(file);
}

/* Passes a request on, with what Redis said in a header after its first line. */
static void deliver(int file, const char *data, size_t length) {
    static char out[2 * ROOM];
    struct end *end = ends[file];
    const char *line = memmem(end->request, end->length, "\r\n", 2);
    if (!line || end->length + length + 64 > sizeof out) die("request");
    size_t head = (size_t)(line + 2 - end->request), at = head;
    memcpy(out, end->request, head);
    at += (size_t)sprintf(out + at, "X-Session-Data: ");
    memcpy(out + at, data, length);
    at += length;
    memcpy(out + at, "\r\n", 2);
    at += 2;
    memcpy(out + at, end->request + head, end->length - head);
    at += end->length - head;
    free(end->request);
    end->request = NULL;
    if (write(end->other, out, at) != (ssize_t)at) drop(file);
}

static void hear(void) {
    ssize_t got = read(redis, told + told_used, sizeof told - told_used);
    if (got <= 0) die("Redis");
    told_used += (size_t)got;
    size_t done = 0;
    for (;;) {
        char *start = told + done, *line = memmem(start, told_used - done, "\r\n", 2);
        if (!line) break;
        long length = strtol(start + 1, NULL, 10);
        if (*start != '$' || length < 0) die("a session that Redis does not have");
        if ((size_t)(line + 2 - told) + (size_t)length + 2 > told_used) break;
        int file = waiting[first++ % MAX_FILES];
        if (file >= 0) deliver(file, line + 2, (size_t)length);
        done = (size_t)(line + 2 - told) + (size_t)length + 2;
    }
    told_used -= done;
    memmove(told, told + done, told_used);
}

static void open_redis(int port, const char *database) {
    char text[64];
    redis = dial(port, 0);
    int length = snprintf(text, sizeof text, "SELECT %s\r\n", database);
    if (redis < 0 || write(redis, text, (size_t)length) != length || read(redis, text, 5) != 5) die("Redis");
    watch(redis);
}

int main(int count, char **words) {
    if (count != 3 && count != 5) return 2;
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(0);
    backend_port = atoi(words[2]);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0) die("bind");
    if (count == 5) open_redis(atoi(words[3]), words[4]);
    watch(listener);
    struct epoll_event events[256];
    for (;;) {
        int ready = epoll_wait(poller, events, 256, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            int file = events[i].data.fd;
            if (file == listener)
                take(listener);
            else if (file == redis)
                hear();
            else if (ends[file])
                pass(file);
        }
        if (asked_used && write(redis, asked, asked_used) != (ssize_t)asked_used) die("Redis");
        asked_used = 0;
    }
}
