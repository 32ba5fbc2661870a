// Runs a command and reports its cost as the kernel counts it: the one thing that a shell or Python cannot do itself,
// since the peak memory of a process includes that of the program that forked it.
//
//     measure DESCRIPTOR COMMAND ARGUMENT…
//
// Stops the command before its first instruction and writes its process id to the descriptor, as a line; whoever counts
// its system calls attaches then, and continues it (SIGCONT). Once it has ended, a line of JSON follows. The command
// cannot raise its scheduling: a generator that runs ahead of the system that it measures is not compared here.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void run(char **command, int report) {
    struct rlimit none = {0, 0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Only root has the capability, and only others need the limit: either may be refused.
    prctl(PR_CAPBSET_DROP, CAP_SYS_NICE);
    setrlimit(RLIMIT_RTPRIO, &none);
    close(report);
    raise(SIGSTOP);
    execvp(command[0], command);
    fprintf(stderr, "error: starting %s: %s\n", command[0], strerror(errno));
    _exit(127);
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: measure DESCRIPTOR COMMAND ARGUMENT...\n");
        return 2;
    }
    int report = atoi(arguments[1]);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    pid_t child = fork();
    if (child == 0) run(arguments + 2, report);
    int status;
    if (child < 0 || waitpid(child, &status, WUNTRACED) < 0) {
        fprintf(stderr, "error: starting %s: %s\n", arguments[2], strerror(errno));
        return 1;
    }
    dprintf(report, "%d\n", (int)child);
    double start = now();
    struct rusage used;
    while (wait4(child, &status, 0, &used) < 0 && errno == EINTR) {}
    dprintf(report,
            "{\"code\": %d, \"elapsed_s\": %.6f, \"user_s\": %.6f, \"system_s\": %.6f, \"peak_rss_kib\": %ld, "
            "\"switches\": %ld}\n",
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), now() - start, seconds(used.ru_utime),
            seconds(used.ru_stime), used.ru_maxrss, used.ru_nvcsw + used.ru_nivcsw);
    return 0;
}
