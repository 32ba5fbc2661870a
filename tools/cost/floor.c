// The least that a workload can cost: a loop over epoll that sends each request when it is due and reads its answer,
// without TLS, parsing or recording beyond the schedule lag.
//
//     floor PORT CONNECTIONS RATE SECONDS FILE timerfd|epoll|closed
//
// FILE holds the bytes of one request to a server on 127.0.0.1 whose answers all have the same length. With `timerfd` a
// request takes six system calls: epoll_wait, read and timerfd_settime for the timer, write, epoll_wait, read. With
// `epoll` it takes four, since epoll_pwait2 ends when the next request is due. With `closed` each connection sends its
// next request as soon as it has an answer, whatever the rate: two, and a share of an epoll_wait. Writes a line of JSON.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64
#define NS 1000000000LL

static void need(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "error: %s: %s\n", what, errno ? strerror(errno) : "not as expected");
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * NS + time.tv_nsec;
}

static struct timespec span(int64_t ns) { return (struct timespec){ns / NS, ns % NS}; }

static int opened(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(connection >= 0, "socket");
    need(connect(connection, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return connection;
}

static int ascending(const void *one, const void *other) {
    uint32_t left = *(const uint32_t *)one, right = *(const uint32_t *)other;
    return (left > right) - (left < right);
}

// Reads from a connection, and returns 1 if that completes an answer.
static int is_answered(int connection, int *received, ssize_t whole) {
    char answer[4096];
    ssize_t got = read(connection, answer, sizeof answer);
    errno = got == 0 ? ECONNRESET : errno;
    need(got > 0, "read");
    *received += (int)got;
    if (*received < whole) return 0;
    need(*received == whole && answer[9] == '2', "the answer");
    *received = 0;
    return 1;
}

// Sends a request on each connection, and the next one with each answer, for so many seconds. Returns the answers.
static int64_t closed_loop(int epoll, const int *sockets, int connections, const char *request, ssize_t length,
                           ssize_t whole, int64_t seconds) {
    int *received = calloc((size_t)connections, sizeof *received);
    need(received != NULL, "memory");
    int64_t answered = 0, end = now() + seconds * NS;
    int under_way = connections;
    for (int index = 0; index < connections; index++)
        need(write(sockets[index], request, (size_t)length) == length, "write");
    while (under_way > 0) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1), over = now() >= end;
        need(ready >= 0 || errno == EINTR, "epoll_wait");
        for (int each = 0; each < ready; each++) {
            uint32_t index = events[each].data.u32;
            if (!is_answered(sockets[index], &received[index], whole)) continue;
            answered++;
            if (over)
                under_way--;
            else
                need(write(sockets[index], request, (size_t)length) == length, "write");
        }
    }
    free(received);
    return answered;
}

int main(int count, char **arguments) {
    if (count != 7) {
        fprintf(stderr, "usage: floor PORT CONNECTIONS RATE SECONDS FILE timerfd|epoll|closed\n");
        return 2;
    }
    int port = atoi(arguments[1]), connections = atoi(arguments[2]);
    int64_t rate = atoll(arguments[3]), requests = rate * atoll(arguments[4]);
    int has_timer = strcmp(arguments[6], "timerfd") == 0, is_closed = strcmp(arguments[6], "closed") == 0;
    if (is_closed) requests = 1;
    char request[4096], answer[4096];
    int file = open(arguments[5], O_RDONLY | O_CLOEXEC);
    need(file >= 0, arguments[5]);
    ssize_t length = read(file, request, sizeof request);
    need(connections > 0 && requests > 0 && length > 0, "arguments");

    int *sockets = calloc((size_t)connections, sizeof *sockets);
    int *received = calloc((size_t)connections, sizeof *received);
    // The connections without a request, as a ring, and the lags of all requests.
    int *idle = calloc((size_t)connections, sizeof *idle);
    uint32_t *lags = calloc((size_t)requests, sizeof *lags);
    need(sockets && received && idle && lags, "memory");
    int epoll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    need(epoll >= 0 && timer >= 0, "epoll, timerfd");
    ssize_t whole = 0;
    for (int index = 0; index < connections; index++) {
        sockets[index] = opened(port);
        idle[index] = index;
        // One request each beforehand: their answers have the length that is expected of all.
        need(write(sockets[index], request, (size_t)length) == length, "write");
        ssize_t got = read(sockets[index], answer, sizeof answer);
        need(got > 12 && memcmp(answer, "HTTP/1.1 200", 12) == 0 && (whole == 0 || got == whole), "the answer");
        whole = got;
        fcntl(sockets[index], F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)index};
        need(epoll_ctl(epoll, EPOLL_CTL_ADD, sockets[index], &event) == 0, "epoll_ctl");
    }
    if (is_closed) {
        int64_t answered = closed_loop(epoll, sockets, connections, request, length, whole, atoll(arguments[4]));
        printf("{\"requests\": %lld}\n", (long long)answered);
        return 0;
    }
    struct epoll_event timer_event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    if (has_timer) need(epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &timer_event) == 0, "epoll_ctl");

    int64_t start = now() + 10000000, sent = 0, answered = 0, armed = -1;
    int64_t first = 0, free_ones = connections, late = 0;
    while (answered < requests) {
        int64_t at = now(), due = start + sent * NS / rate;
        while (sent < requests && due <= at && free_ones > 0) {
            int index = idle[first++ % connections];
            free_ones--;
            need(write(sockets[index], request, (size_t)length) == length, "write");
            lags[sent] = (uint32_t)((at - due) / 100);
            late += at - due > 10000000;
            due = start + ++sent * NS / rate;
            at = now();
        }
        int waits = sent < requests && free_ones > 0;
        struct epoll_event events[EVENTS];
        int ready;
        if (has_timer) {
            if (waits && armed != sent) {
                struct itimerspec when = {.it_value = span(due)};
                need(timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL) == 0, "timerfd_settime");
                armed = sent;
            }
            ready = epoll_wait(epoll, events, EVENTS, -1);
        } else {
            struct timespec rest = span(due > at ? due - at : 0);
            ready = epoll_pwait2(epoll, events, EVENTS, waits ? &rest : NULL, NULL);
        }
        need(ready >= 0 || errno == EINTR, "epoll_wait");
        for (int each = 0; each < ready; each++) {
            uint32_t index = events[each].data.u32;
            if (index == UINT32_MAX) {
                uint64_t expirations;
                need(read(timer, &expirations, sizeof expirations) >= 0 || errno == EAGAIN, "read");
                continue;
            }
            if (!is_answered(sockets[index], &received[index], whole)) continue;
            idle[(first + free_ones++) % connections] = (int)index;
            answered++;
        }
    }
    qsort(lags, (size_t)requests, sizeof *lags, ascending);
    printf("{\"requests\": %lld, \"late\": %lld, \"lag_p50_us\": %.1f, \"lag_p99_us\": %.1f}\n", (long long)answered,
           (long long)late, lags[requests / 2] / 10.0, lags[requests * 99 / 100] / 10.0);
    return 0;
}
