/* Requests at a fixed rate, however slow the answers are: arrivals are a Poisson process, and the time a request takes is
 * counted from when it was meant to be sent, so that a server that stalls cannot hide it by slowing its client down.
 *
 * rate PORT PATH COOKIE-FILE RATE SECONDS CONNECTIONS
 *
 * Each line of COOKIE-FILE is the value of a Cookie header; each request has one of them at random. Prints JSON.
 * It sleeps on a timer of the kernel's instead of polling, because it shares its core with the backend and the store. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 16384 };

struct connection {
    int file;
    int64_t meant; /* When its request should have left, in nanoseconds; 0: it is free. */
    size_t used;
    char bytes[ROOM + 1];
};

static struct connection *connections;
static int *idle, idle_count, poller;
static char **requests;
static size_t request_count;
static int64_t *latencies, *meant;
static size_t arrivals, sent, answered, failed;

static void die(const char *what) {
    fprintf(stderr, "rate: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void read_cookies(const char *name, const char *path) {
    FILE *file = fopen(name, "r");
    if (!file) die(name);
    char *line = NULL;
    size_t room = 0, space = 0;
    ssize_t length;
    while ((length = getline(&line, &room, file)) > 0) {
        if (line[length - 1] == '\n') line[length - 1] = 0;
        if (request_count == space) {
            space = space ? 2 * space : 1024;
            if (!(requests = realloc(requests, space * sizeof *requests))) die("realloc");
        }
        if (asprintf(&requests[request_count++], "GET %s HTTP/1.1\r\nHost: localhost\r\nCookie: %s\r\n\r\n", path, line) < 0) die("asprintf");
    }
    free(line);
    fclose(file);
    if (!request_count) die("no cookies");
}

static void open_connections(int count, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    connections = calloc((size_t)count, sizeof *connections);
    idle = calloc((size_t)count, sizeof *idle);
    if (!connections || !idle) die("calloc");
    for (int i = 0; i < count; i++) {
        int one = 1, file = socket(AF_INET, SOCK_STREAM, 0);
        if (file < 0 || connect(file, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
        setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[i].file = file;
        idle[idle_count++] = i;
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, file, &event) < 0) die("epoll_ctl");
    }
}

/* When each request is to leave: the gaps have an exponential distribution. */
static void plan(double rate, double seconds) {
    size_t room = (size_t)(rate * seconds * 1.5) + 1000;
    meant = calloc(room, sizeof *meant);
    latencies = calloc(room, sizeof *latencies);
    if (!meant || !latencies) die("calloc");
    double at = 0;
    while (arrivals < room && (at += -log(1 - drand48()) / rate) < seconds) meant[arrivals++] = (int64_t)(at * 1e9);
    int64_t start = now() + 10000000;
    for (size_t i = 0; i < arrivals; i++) meant[i] += start;
}

/* Sends what is due, as long as there is a connection for it; what has to wait for one counts the wait. */
static void send_due(void) {
    while (sent < arrivals && idle_count && meant[sent] <= now()) {
        struct connection *connection = &connections[idle[--idle_count]];
        const char *request = requests[(size_t)lrand48() % request_count];
        connection->meant = meant[sent++];
        connection->used = 0;
        size_t length = strlen(request);
        if (write(connection->file, request, length) != (ssize_t)length) die("write");
    }
}

/* Whether the answer is whole. */
static int whole(struct connection *connection) {
    connection->bytes[connection->used] = 0;
    char *end = strstr(connection->bytes, "\r\n\r\n");
    if (!end) return 0;
    char *length = strcasestr(connection->bytes, "\r\ncontent-length:");
    if (!length || length > end) die("an answer without a length");
    return connection->used >= (size_t)(end + 4 - connection->bytes) + strtoul(length + 17, NULL, 10);
}

static void receive(int number) {
    struct connection *connection = &connections[number];
    ssize_t got = read(connection->file, connection->bytes + connection->used, ROOM - connection->used);
    if (got <= 0 || !connection->meant) die("the connection was closed");
    connection->used += (size_t)got;
    if (!whole(connection)) {
        if (connection->used == ROOM) die("an answer that is too large");
        return;
    }
    if (strncmp(connection->bytes, "HTTP/1.1 200 ", 13) != 0) failed++;
    latencies[answered++] = now() - connection->meant;
    connection->meant = 0;
    idle[idle_count++] = number;
}

static void set_timer(int timer) {
    if (sent >= arrivals || !idle_count) return;
    struct itimerspec when = {.it_value = {.tv_sec = meant[sent] / 1000000000, .tv_nsec = meant[sent] % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static int compare(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static double percentile(double share) {
    size_t rank = (size_t)ceil(share * (double)answered);
    return (double)latencies[rank ? rank - 1 : 0] / 1000;
}

int main(int count, char **words) {
    if (count != 7) return 2;
    double rate = atof(words[4]), seconds = atof(words[5]);
    prctl(PR_SET_TIMERSLACK, 1);
    srand48(now());
    poller = epoll_create1(0);
    read_cookies(words[3], words[2]);
    open_connections(atoi(words[6]), atoi(words[1]));
    plan(rate, seconds);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX}, events[256];
    if (timer < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event) < 0) die("timer");
    while (answered < arrivals) {
        send_due();
        set_timer(timer);
        /* Ten seconds without anything are a failure, not a measurement. */
        int ready = epoll_wait(poller, events, 256, 10000);
        if (ready == 0) die("no answer in ten seconds");
        for (int i = 0; i < ready; i++) {
            uint64_t expired;
            if (events[i].data.u32 != UINT32_MAX)
                receive((int)events[i].data.u32);
            else if (read(timer, &expired, sizeof expired) < 0 && errno != EAGAIN)
                die("timer");
        }
    }
    double took = (double)(now() - meant[0]) / 1e9;
    if (!answered) die("nothing was sent");
    qsort(latencies, answered, sizeof *latencies, compare);
    printf("{\"requests\": %zu, \"failed\": %zu, \"seconds\": %.3f, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
           answered, failed, took, percentile(0.5), percentile(0.9), percentile(0.99), percentile(1));
}
