/* How long a change made through one proxy goes unseen at another that has the session in its near cache.
 *
 * probe PORT PORT PATH SECONDS CONNECTIONS MICROSECONDS
 *
 * One trial: a session is created through the first proxy, and the second one is asked for it on whichever of its connections
 * is free, once every so many microseconds. When all have seen it a few times, the first is asked for PATH, whose answer changes
 * the session, or ends it. What counts is the time from that answer, read whole, to the moment before the last request was written
 * to the second proxy that was still answered with the session as it was: 0 if there is none. An answer with the old session to
 * a request that began after another was answered rightly is counted apart: there must be none.
 *
 * A trial goes on until no old session has been seen for a while. At the end every session is asked for once more.
 *
 * Prints JSON: the delays in nanoseconds, and in `gaps` the times between requests to the second proxy in the moments after the
 * change: nothing shorter than these can be told. One thread that sleeps in epoll, for it shares its core. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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

enum { ROOM = 65536, MOST_CONNECTIONS = 64, MOST_TRIALS = 200000, COOKIE = 256, DATA = 1024, WARM = 3, FIRST = 100, TIMER = 101 };
/* How long a trial goes on after the change and after the last old answer. */
static const int64_t AFTER = 5000000;
/* Longer than the near cache believes anything: then something is broken. */
static const int64_t LONGEST = 60000000000;

struct connection {
    int file;
    int64_t began; /* The moment before its last request was written. */
    int seen;      /* Answers with the session, in this trial. */
    size_t used;
    char bytes[ROOM + 1];
};

static struct connection first, others[MOST_CONNECTIONS];
static int count, poller, timer, idle[MOST_CONNECTIONS], idle_first, idle_count;
static char cookie[COOKIE], data[DATA], answer_data[DATA];
static char (*kept_cookies)[COOKIE], (*kept_data)[DATA];
static int64_t *delays, *gaps;
static size_t trials, gap_count, early, regressions, revived;

static void die(const char *what) {
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void join(struct connection *connection, int port, uint32_t number) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    connection->file = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->file < 0 || connect(connection->file, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
    setsockopt(connection->file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, connection->file, &event) < 0) die("epoll_ctl");
}

static void ask(struct connection *connection, const char *path, const char *with) {
    char request[1024];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s%s%s\r\n", path, *with ? "Cookie: " : "", with,
                          *with ? "\r\n" : "");
    connection->used = 0;
    connection->began = now();
    if (write(connection->file, request, (size_t)length) != length) die("write");
}

/* Reads what is there; whether the answer is whole. Any other status than 200 ends everything. */
static int whole(struct connection *connection) {
    ssize_t got = read(connection->file, connection->bytes + connection->used, ROOM - connection->used);
    if (got <= 0) die("the connection was closed");
    connection->used += (size_t)got;
    connection->bytes[connection->used] = 0;
    char *end = strstr(connection->bytes, "\r\n\r\n");
    if (!end) return 0;
    char *length = strcasestr(connection->bytes, "\r\ncontent-length:");
    if (!length || length > end) die("an answer without a length");
    if (connection->used < (size_t)(end + 4 - connection->bytes) + strtoul(length + 17, NULL, 10)) return 0;
    if (strncmp(connection->bytes, "HTTP/1.1 200 ", 13) != 0) {
        fprintf(stderr, "probe: %.*s\n", (int)(end - connection->bytes), connection->bytes);
        exit(1);
    }
    return 1;
}

/* The value of a line up to any of `ends`, or nothing. */
static void line(const char *text, const char *name, const char *ends, char *value, size_t room) {
    const char *at = strcasestr(text, name);
    size_t length = at ? strcspn(at + strlen(name), ends) : 0;
    if (length >= room) die("a value that is too long");
    memcpy(value, at ? at + strlen(name) : "", length);
    value[length] = 0;
}

/* Asks on a connection that nothing else is under way on. */
static void ask_alone(struct connection *connection, const char *path, const char *with) {
    ask(connection, path, with);
    while (!whole(connection))
        ;
}

static void create(void) {
    char path[64];
    snprintf(path, sizeof path, "/create?%zu", trials + 1);
    ask_alone(&first, path, "");
    line(first.bytes, "\r\nset-cookie: ", ";\r", cookie, sizeof cookie);
    if (!*cookie) die("no session was created");
    ask_alone(&first, "/seen", cookie);
    line(first.bytes, "\r\nx-session-data: ", "\r", data, sizeof data);
    if (!*data) die("the backend sees no session");
}

static int64_t latest(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* What is known of the trial that is under way. Times of 0 have not come. */
static struct {
    int64_t answered, right, last_old, last_old_seen, last_began;
    int warm, changing;
} state;

static void take_answer(struct connection *other) {
    int64_t time = now();
    line(other->bytes, "\r\nx-session-data: ", "\r", answer_data, sizeof answer_data);
    if (strcmp(answer_data, data) == 0) {
        if (++other->seen == WARM) state.warm++;
        state.last_old = latest(state.last_old, other->began);
        state.last_old_seen = time;
        if (state.right && other->began > state.right) regressions++;
        if (state.answered && time - state.answered > LONGEST) die("the old session is still there after a minute");
    } else if (!state.right) {
        if (!state.changing) die("the session is not what it was before anything changed it");
        state.right = time;
        if (!state.answered) early++;
    }
}

/* They take turns. */
static void set_idle(int number) {
    idle[(idle_first + idle_count++) % MOST_CONNECTIONS] = number;
}

/* A tick of the clock. What has no connection free waits for the next one. */
static void ask_other(void) {
    if (!idle_count) return;
    struct connection *other = &others[idle[idle_first]];
    idle_first = (idle_first + 1) % MOST_CONNECTIONS;
    idle_count--;
    ask(other, "/seen", cookie);
    if (state.answered && gap_count < MOST_TRIALS) gaps[gap_count++] = other->began - state.last_began;
    state.last_began = other->began;
}

static int over(void) {
    return state.answered && now() > latest(state.answered, state.last_old_seen) + AFTER;
}

/* One session from its creation to the end of its old state. */
static void trial(const char *path) {
    struct epoll_event events[MOST_CONNECTIONS + 2];
    memset(&state, 0, sizeof state);
    create();
    for (int i = 0; i < count; i++) others[i].seen = 0;
    while (!over() || idle_count < count) {
        int ready = epoll_wait(poller, events, count + 2, 10000);
        if (ready == 0) die("no answer in ten seconds");
        for (int i = 0; i < ready; i++) {
            uint32_t number = events[i].data.u32;
            uint64_t ticks;
            if (number == TIMER) {
                if (read(timer, &ticks, sizeof ticks) > 0 && !over()) ask_other();
            } else if (number == FIRST) {
                if (whole(&first)) state.answered = now();
            } else if (whole(&others[number])) {
                take_answer(&others[number]);
                set_idle((int)number);
            }
        }
        if (state.warm == count && !state.changing) {
            state.changing = 1;
            ask(&first, path, cookie);
        }
    }
    delays[trials] = state.last_old > state.answered ? state.last_old - state.answered : 0;
    memcpy(kept_cookies[trials], cookie, sizeof cookie);
    memcpy(kept_data[trials], data, sizeof data);
    trials++;
}

static void set_timer(long microseconds) {
    struct timespec every = {.tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000};
    struct itimerspec when = {.it_value = every, .it_interval = every};
    prctl(PR_SET_TIMERSLACK, 1);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = TIMER};
    if (timer < 0 || timerfd_settime(timer, 0, &when, NULL) < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event) < 0) die("timer");
}

static void print(const char *name, const int64_t *values, size_t length) {
    printf("\"%s\": [", name);
    for (size_t i = 0; i < length; i++) printf("%s%lld", i ? "," : "", (long long)values[i]);
    printf("]");
}

int main(int words, char **word) {
    if (words != 7 || (count = atoi(word[5])) < 1 || count > MOST_CONNECTIONS) return 2;
    delays = calloc(MOST_TRIALS, sizeof *delays);
    gaps = calloc(MOST_TRIALS, sizeof *gaps);
    kept_cookies = calloc(MOST_TRIALS, sizeof *kept_cookies);
    kept_data = calloc(MOST_TRIALS, sizeof *kept_data);
    poller = epoll_create1(0);
    if (!delays || !gaps || !kept_cookies || !kept_data || poller < 0) die("memory");
    join(&first, atoi(word[1]), FIRST);
    for (int i = 0; i < count; i++) {
        join(&others[i], atoi(word[2]), (uint32_t)i);
        set_idle(i);
    }
    set_timer(atol(word[6]));
    int64_t end = now() + (int64_t)(atof(word[4]) * 1e9);
    while (now() < end && trials < MOST_TRIALS) trial(word[3]);
    for (size_t i = 0; i < trials; i++) {
        ask_alone(&others[0], "/seen", kept_cookies[i]);
        line(others[0].bytes, "\r\nx-session-data: ", "\r", answer_data, sizeof answer_data);
        if (strcmp(answer_data, kept_data[i]) == 0) revived++;
    }
    printf("{\"early\": %zu, \"regressions\": %zu, \"revived\": %zu, ", early, regressions, revived);
    print("delays", delays, trials);
    printf(", ");
    print("gaps", gaps, gap_count);
    printf("}\n");
}
