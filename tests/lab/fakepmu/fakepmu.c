/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives a libvirtd, or a privileged helper of ours, into which it is preloaded
 * the PMUs that its host lacks.
 *
 * - A hardware event that the kernel refuses becomes a software clock: it
 *   counts nanoseconds of CPU time of the very threads that the event would
 *   count, is inherited by new threads as the event would be, and is lost
 *   where the event would be lost. What is read is that time at a rate of the
 *   event's own, so that no two are alike. A hardware event that works stays
 *   real. In a group each counts for itself.
 * - Where COUNTERS is in the environment, every hardware event is such a clock,
 *   and a CPU has only that many counters, of which another user holds TAKEN.
 *   A group that needs more than there are can't be opened, and one that needs
 *   more than are free never runs. Others take turns, as the kernel has them
 *   do, and what they count then comes in phases of more and less.
 * - Intel's cache monitoring PMU, which Linux dropped in 4.14, is read from
 *   CQM_HERE. Its events are such clocks, too: CPU time stands in for memory
 *   traffic, and the share of a CPU that is in use for the occupancy. The
 *   lab's resctrl makes its numbers in the same way out of the same clocks;
 *   see resctrl/hardware.py, whose defaults these are.
 *
 * And where not even root may raise a limit (a container without
 * CAP_SYS_RESOURCE), libvirt hears that it has raised that of locked memory,
 * without which it starts no realtime guest. Root's QEMU needs no limit.
 *
 * HARDWARE_RATES are RATES of pmu.py, from the compiler's command line.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CQM_SYSFS "/sys/devices/intel_cqm/"
#define CQM_HERE "/run/libvirt/intel_cqm/"
#define CQM_TYPE 57005 /* as CQM_HERE "type" says */
#define CQM_OCCUPANCY 1
#define CQM_TOTAL 2
#define CQM_LOCAL 3

#define WORKING_SET (8 << 20) /* bytes of a thread that always runs */
#define UNIT 4096             /* as CQM_HERE "events/llc_occupancy.scale" */
#define WINDOW 100000000      /* nanoseconds over which a level is taken */

#define COUNTERS "FAKEPMU_COUNTERS"
#define TAKEN "FAKEPMU_TAKEN"
#define TURN 5000000 /* nanoseconds of CPU time */
#define PHASE 7      /* turns */

#define MOST_FILES 65536
#define MOST_GROUPS 16 /* on a thread */
#define LENGTH(array) (sizeof(array) / sizeof(*(array)))

typedef long (*syscall_fn)(long, ...);
typedef int (*open_fn)(const char *, int, ...);
typedef ssize_t (*read_fn)(int, void *, size_t);
typedef ssize_t (*readv_fn)(int, const struct iovec *, int);
typedef int (*close_fn)(int);

/* What an event counts in a microsecond of CPU time, by its config. */
static const uint64_t hardware[] = {HARDWARE_RATES};
static const uint64_t cqm[] = {
    [CQM_OCCUPANCY] = WORKING_SET / UNIT * 1000, /* which level() divides */
    [CQM_TOTAL] = 1000,
    [CQM_LOCAL] = 750,
};

/* The events that are clocks, by file descriptor; others have no rate. */
static struct {
    uint64_t rate;
    uint64_t at;    /* when the level was taken; 0 of what is none */
    uint64_t count; /* and what had been counted by then */
    uint64_t level;
    int next; /* in the group; 0 of its last */
    struct {
        int thread; /* 0 of what leads no group of hardware events */
        int size;   /* how many counters it needs */
        uint64_t enabled, running, phased; /* until the last whole turn */
    } group; /* of its leader */
} events[MOST_FILES];
static int end_of_files; /* above all that are in use */
static int counters;     /* 0 if there are always enough */
static int taken;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void start(void)
{
    counters = atoi(getenv(COUNTERS) ?: "0");
    taken = atoi(getenv(TAKEN) ?: "0");
    /* libvirt hands it on to QEMU, which has no use for this. */
    unsetenv("LD_PRELOAD");
}

/* Zero of what is none of ours. */
static uint64_t rate_of(const struct perf_event_attr *attr)
{
    if (attr->type == PERF_TYPE_HARDWARE && attr->config < LENGTH(hardware))
        return hardware[attr->config];
    if (attr->type == CQM_TYPE && attr->config < LENGTH(cqm))
        return cqm[attr->config];
    return 0;
}

static void become_software(struct perf_event_attr *attr)
{
    attr->type = PERF_TYPE_SOFTWARE;
    attr->config = PERF_COUNT_SW_TASK_CLOCK;
}

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int is_kept(int fd)
{
    return fd >= 0 && fd < MOST_FILES;
}

static void remember(int fd, uint64_t rate, uint64_t at)
{
    if (!is_kept(fd))
        return;
    pthread_mutex_lock(&lock);
    memset(&events[fd], 0, sizeof(events[fd]));
    events[fd].rate = rate;
    events[fd].at = at;
    if (fd >= end_of_files)
        end_of_files = fd + 1;
    pthread_mutex_unlock(&lock);
}

/* The leader is -1 where the event is to lead. */
static void join(int fd, int leader, int thread)
{
    int last;

    if (!is_kept(fd) || (leader >= 0 && !is_kept(leader)))
        return;
    pthread_mutex_lock(&lock);
    if (leader < 0) {
        leader = fd;
    } else {
        for (last = leader; events[last].next; last = events[last].next)
            ;
        events[last].next = fd;
    }
    if (events[fd].rate) {
        events[leader].group.thread = thread;
        events[leader].group.size++;
    }
    pthread_mutex_unlock(&lock);
}

/* To the last one, and with nothing that overflows on the way. */
static uint64_t counted(int fd, uint64_t clock)
{
    uint64_t rate = events[fd].rate;

    return clock / 1000 * rate + clock % 1000 * rate / 1000;
}

/* How much was counted in each nanosecond that has passed. */
static uint64_t level(int fd, uint64_t count)
{
    uint64_t passed = now() - events[fd].at;

    if (passed >= WINDOW) {
        events[fd].level = (count - events[fd].count) / passed;
        events[fd].count = count;
        events[fd].at += passed;
    }
    return events[fd].level;
}

/* Whether a group is on the counters in one turn: each time another one of
 * those on its thread comes first, and the next ones as long as they fit. */
static int runs(int leader, uint64_t turn)
{
    int groups[MOST_GROUPS], number = 0, used = 0;

    for (int fd = 0; fd < end_of_files && number < MOST_GROUPS; fd++)
        if (events[fd].group.thread == events[leader].group.thread)
            groups[number++] = fd;
    for (int i = 0; i < number; i++) {
        int other = groups[(turn + i) % number];

        used += events[other].group.size;
        if (used > counters - taken)
            return 0;
        if (other == leader)
            return 1;
    }
    return 0;
}

/* What counts in some of a turn's time is more in one phase than in the next,
 * and comes to the time itself in the end, whoever's turn it is: there are 35
 * turns in all phases, which is no multiple of the number of groups. */
static uint64_t phased(uint64_t turn, uint64_t time)
{
    static const int halves[] = {3, 1, 2, 1, 3};

    return time * halves[turn / PHASE % LENGTH(halves)] / 2;
}

/* Has a group run for this long; returns how much of it counts. */
static uint64_t take_turns(int leader, uint64_t enabled, uint64_t *running)
{
    typeof(events[leader].group) *group = &events[leader].group;
    uint64_t turn = group->enabled / TURN;
    uint64_t rest;

    for (; enabled - group->enabled >= TURN; group->enabled += TURN, turn++)
        if (runs(leader, turn)) {
            group->running += TURN;
            group->phased += phased(turn, TURN);
        }
    rest = runs(leader, turn) ? enabled - group->enabled : 0;
    *running = group->running + rest;
    return group->phased + phased(turn, rest);
}

/* The format is GROUP with both times. */
static void make_up_group(int leader, uint64_t *numbers)
{
    int turns = counters && events[leader].group.size;
    uint64_t clock =
        turns ? take_turns(leader, numbers[1], &numbers[2]) : numbers[1];
    int fd = leader;

    for (uint64_t i = 0; i < numbers[0]; i++, fd = events[fd].next)
        if (events[fd].rate)
            numbers[3 + i] = counted(fd, clock);
}

static void make_up(int fd, void *buffer, ssize_t size)
{
    uint64_t *numbers = buffer;

    if (!is_kept(fd) || size < (ssize_t)sizeof(*numbers))
        return;
    pthread_mutex_lock(&lock);
    if (events[fd].next || events[fd].group.thread) {
        if (size == (ssize_t)(sizeof(*numbers) * (3 + numbers[0])))
            make_up_group(fd, numbers);
    } else if (events[fd].rate && size == sizeof(*numbers)) {
        numbers[0] = counted(fd, numbers[0]);
        if (events[fd].at)
            numbers[0] = level(fd, numbers[0]);
    }
    pthread_mutex_unlock(&lock);
}

ssize_t read(int fd, void *buffer, size_t size)
{
    static read_fn real;
    ssize_t result;

    if (!real)
        real = (read_fn)dlsym(RTLD_NEXT, "read");
    result = real(fd, buffer, size);
    if (is_kept(fd) && (events[fd].rate || events[fd].next))
        make_up(fd, buffer, result);
    return result;
}

ssize_t readv(int fd, const struct iovec *buffers, int number)
{
    static readv_fn real;
    ssize_t result;

    if (!real)
        real = (readv_fn)dlsym(RTLD_NEXT, "readv");
    result = real(fd, buffers, number);
    if (number == 1 && is_kept(fd) && (events[fd].rate || events[fd].next))
        make_up(fd, buffers->iov_base, result);
    return result;
}

int close(int fd)
{
    static close_fn real;

    if (!real)
        real = (close_fn)dlsym(RTLD_NEXT, "close");
    /* Before: it may be another's as soon as it is closed. */
    if (is_kept(fd) && (events[fd].rate || events[fd].next))
        remember(fd, 0, 0);
    return real(fd);
}

static int has_room(int leader)
{
    return !counters || !is_kept(leader) ||
           events[leader].group.size < counters;
}

static long open_made_up(syscall_fn real, struct perf_event_attr attr,
                         const long *arg)
{
    int is_level = attr.type == CQM_TYPE && attr.config == CQM_OCCUPANCY;
    uint64_t rate = rate_of(&attr);
    long result;

    if (!has_room(arg[3])) {
        errno = EINVAL;
        return -1;
    }
    become_software(&attr);
    result = real(SYS_perf_event_open, &attr, arg[1], arg[2], arg[3], arg[4]);
    remember(result, rate, is_level ? now() : 0);
    return result;
}

static long open_event(syscall_fn real, const long *arg)
{
    struct perf_event_attr attr = *(struct perf_event_attr *)arg[0];
    uint64_t rate = rate_of(&attr);
    long result = -1;

    if (!rate || !counters)
        result = real(SYS_perf_event_open, &attr, arg[1], arg[2], arg[3],
                      arg[4]);
    if (result < 0 && rate)
        result = open_made_up(real, attr, arg);
    if (result >= 0 && attr.read_format & PERF_FORMAT_GROUP)
        join(result, arg[3], arg[1]);
    return result;
}

long syscall(long number, ...)
{
    static syscall_fn real;
    long arg[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        arg[i] = va_arg(list, long);
    va_end(list);
    if (!real)
        real = (syscall_fn)dlsym(RTLD_NEXT, "syscall");

    if (number == SYS_perf_event_open)
        return open_event(real, arg);
    return real(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

static int open_here(const char *name, const char *path, int flags,
                     mode_t mode)
{
    open_fn real = (open_fn)dlsym(RTLD_NEXT, name);
    char here[256];

    if (!strncmp(path, CQM_SYSFS, strlen(CQM_SYSFS))) {
        snprintf(here, sizeof(here), CQM_HERE "%s", path + strlen(CQM_SYSFS));
        path = here;
    }
    return real(path, flags, mode);
}

#define OPEN(name)                                           \
    int name(const char *path, int flags, ...)               \
    {                                                        \
        mode_t mode = 0;                                     \
                                                             \
        if (__OPEN_NEEDS_MODE(flags)) {                      \
            va_list list;                                    \
                                                             \
            va_start(list, flags);                           \
            mode = va_arg(list, mode_t);                     \
            va_end(list);                                    \
        }                                                    \
        return open_here(#name, path, flags, mode);          \
    }

OPEN(open)
OPEN(open64)

static int raised(long result, __rlimit_resource_t resource)
{
    if (result < 0 && errno == EPERM && resource == RLIMIT_MEMLOCK)
        return 0;
    return result;
}

#define LIMIT(suffix, type)                                              \
    int prlimit##suffix(pid_t pid, __rlimit_resource_t resource,         \
                        const struct type *new, struct type *old)        \
    {                                                                    \
        return raised(syscall(SYS_prlimit64, pid, resource, new, old),   \
                      resource);                                         \
    }                                                                    \
    int setrlimit##suffix(__rlimit_resource_t resource,                  \
                          const struct type *new)                        \
    {                                                                    \
        return prlimit##suffix(0, resource, new, NULL);                  \
    }

LIMIT(, rlimit)
LIMIT(64, rlimit64)
