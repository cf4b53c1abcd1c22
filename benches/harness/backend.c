/* The cheapest possible backend: one epoll thread that answers every request that ends in its buffer, mostly with the same
 * bytes, on connections that are kept alive. A request has a body only if it is a POST, and one with a length.
 *
 * backend PORT SESSION-FILE
 *
 *   /          100 bytes
 *   /update    the same, and X-Session-Set with a value that is another each time
 *   /create?N  the same, and X-Session-Set with the contents of SESSION-FILE, in which @ stands for N
 *   /flush     the same, and X-Session-Action: flush
 *   /cycle     the same, and X-Session-Action: cycle
 *   /large     64 KiB
 *   /upload    100 bytes, to a POST
 *   /seen      the head of the request as it came, to check what a proxy makes of it
 */
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
#include <time.h>
#include <unistd.h>

/* Room for the head of a request with the largest session. */
enum { ROOM = 131072, MAX_FILES = 65536 };

struct connection {
    size_t used;
    char bytes[ROOM];
};

static struct connection *connections[MAX_FILES];
static char session[4096], large[65536], date[64];
static time_t dated;

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* A proxy would add a date of its own to an answer that has none. */
static void set_date(void) {
    time_t now = time(NULL);
    if (now != dated) {
        dated = now;
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    }
}

static size_t answer(char *out, size_t room, const char *extra, const char *body, size_t length) {
    int head = snprintf(out, room, "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n",
                        date, length, extra);
    if (head < 0 || (size_t)head + length > room) return 0;
    memcpy(out + head, body, length);
    return (size_t)head + length;
}

static size_t create(char *out, size_t room, const char *body, const char *number, const char *end) {
    char extra[sizeof session + 256] = "X-Session-Set: ";
    size_t at = strlen(extra), digits = 0;
    while (number + digits < end && number[digits] >= '0' && number[digits] <= '9') digits++;
    if (digits > 20) digits = 20;
    for (const char *from = session; *from && at < sizeof extra - 32; from++) {
        if (*from != '@') {
            extra[at++] = *from;
            continue;
        }
        memcpy(extra + at, number, digits);
        at += digits;
    }
    memcpy(extra + at, "\r\n", 3);
    return answer(out, room, extra, body, 100);
}

/* Answers the request between two pointers; how many bytes it wrote. */
static size_t respond(const char *head, const char *end, char *out, size_t room) {
    static const char body[101] = "The quick brown fox jumps over the lazy dog, and then it sits down and has one hundred bytes of tea.";
    static unsigned long updates;
    const char *path = head + 4;
    if (end - head >= 16 && memcmp(head, "POST /upload ", 13) == 0) return answer(out, room, "", body, 100);
    if (end - head < 16 || memcmp(head, "GET ", 4) != 0) return 0;
    if (memcmp(path, "/ ", 2) == 0) return answer(out, room, "", body, 100);
    if (memcmp(path, "/update ", 8) == 0) {
        char extra[128];
        snprintf(extra, sizeof extra, "X-Session-Set: seen=%032lx\r\n", ++updates);
        return answer(out, room, extra, body, 100);
    }
    if (memcmp(path, "/flush ", 7) == 0) return answer(out, room, "X-Session-Action: flush\r\n", body, 100);
    if (memcmp(path, "/cycle ", 7) == 0) return answer(out, room, "X-Session-Action: cycle\r\n", body, 100);
    if (memcmp(path, "/create?", 8) == 0) return create(out, room, body, path + 8, end);
    if (memcmp(path, "/large ", 7) == 0) return answer(out, room, "", large, sizeof large);
    if (memcmp(path, "/seen ", 6) == 0) return answer(out, room, "", head, (size_t)(end - head));
    return 0;
}

/* How long the body behind a head is. */
static size_t body_length(char *head, char *end) {
    if (head[0] != 'P') return 0;
    *end = 0;
    char *length = strcasestr(head, "\r\ncontent-length:");
    *end = '\r';
    return length ? strtoul(length + 17, NULL, 10) : 0;
}

static void drop(int file) {
    close(file);
    free(connections[file]);
    connections[file] = NULL;
}

static void serve(int file) {
    static char out[2 * ROOM];
    struct connection *connection = connections[file];
    ssize_t got = read(file, connection->bytes + connection->used, ROOM - connection->used);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(file);
        return;
    }
    connection->used += (size_t)got;
    size_t done = 0, written = 0;
    char *end;
    while ((end = memmem(connection->bytes + done, connection->used - done, "\r\n\r\n", 4))) {
        size_t whole = (size_t)(end + 4 - connection->bytes) + body_length(connection->bytes + done, end);
        if (whole > connection->used) break;
        size_t length = respond(connection->bytes + done, end + 2, out + written, sizeof out - written);
        if (length == 0) {
            fprintf(stderr, "not for this backend: %.*s\n", (int)(end - connection->bytes), connection->bytes);
            drop(file);
            return;
        }
        written += length;
        done = whole;
    }
    connection->used -= done;
    memmove(connection->bytes, connection->bytes + done, connection->used);
    if (connection->used == ROOM || (written && write(file, out, written) != (ssize_t)written)) drop(file);
}

static void take(int listener, int poll) {
    int one = 1, file;
    while ((file = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (file >= MAX_FILES || !(connections[file] = malloc(sizeof(struct connection)))) {
            close(file);
            continue;
        }
        connections[file]->used = 0;
        setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = file};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, file, &event) < 0) die("epoll_ctl");
    }
}

static void read_session(const char *name) {
    FILE *file = fopen(name, "r");
    if (!file || !fgets(session, sizeof session, file)) die(name);
    session[strcspn(session, "\n")] = 0;
    fclose(file);
}

int main(int count, char **words) {
    if (count != 3) return 2;
    signal(SIGPIPE, SIG_IGN);
    read_session(words[2]);
    memset(large, 'x', sizeof large);
    int one = 1, poll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0) die("bind");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event) < 0) die("epoll_ctl");
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        set_date();
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                take(listener, poll);
            else if (connections[events[i].data.fd])
                serve(events[i].data.fd);
        }
    }
}
