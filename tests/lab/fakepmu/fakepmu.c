/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives a libvirtd into which it is preloaded the PMUs that its host lacks.
 *
 * - A hardware event that the kernel refuses becomes a software clock: it
 *   counts nanoseconds of CPU time of the very threads that the event would
 *   count, is inherited by new threads as the event would be, and is lost
 *   where the event would be lost. What is read is that time at a rate of the
 *   event's own, so that no two are alike. A hardware event that works stays
 *   real.
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

#define MOST_FILES 65536
#define LENGTH(array) (sizeof(array) / sizeof(*(array)))

typedef long (*syscall_fn)(long, ...);
typedef int (*open_fn)(const char *, int, ...);
typedef ssize_t (*read_fn)(int, void *, size_t);
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
} events[MOST_FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* libvirt hands LD_PRELOAD on to QEMU, which has no use for this. */
__attribute__((constructor)) static void stay_in_libvirtd(void)
{
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

static void remember(int fd, uint64_t rate, uint64_t at)
{
    if (fd < 0 || fd >= MOST_FILES)
        return;
    pthread_mutex_lock(&lock);
    memset(&events[fd], 0, sizeof(events[fd]));
    events[fd].rate = rate;
    events[fd].at = at;
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

ssize_t read(int fd, void *buffer, size_t size)
{
    static read_fn real;
    uint64_t value;
    ssize_t result;

    if (!real)
        real = (read_fn)dlsym(RTLD_NEXT, "read");
    result = real(fd, buffer, size);
    if (result != sizeof(value) || fd >= MOST_FILES || !events[fd].rate)
        return result;

    memcpy(&value, buffer, sizeof(value));
    pthread_mutex_lock(&lock);
    value = counted(fd, value);
    if (events[fd].at)
        value = level(fd, value);
    pthread_mutex_unlock(&lock);
    memcpy(buffer, &value, sizeof(value));
    return result;
}

int close(int fd)
{
    static close_fn real;

    if (!real)
        real = (close_fn)dlsym(RTLD_NEXT, "close");
    /* Before: it may be another's as soon as it is closed. */
    if (fd >= 0 && fd < MOST_FILES && events[fd].rate)
        remember(fd, 0, 0);
    return real(fd);
}

long syscall(long number, ...)
{
    static syscall_fn real;
    long arg[6];
    long result;
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        arg[i] = va_arg(list, long);
    va_end(list);
    if (!real)
        real = (syscall_fn)dlsym(RTLD_NEXT, "syscall");

    result = real(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
    if (result < 0 && number == SYS_perf_event_open) {
        struct perf_event_attr attr = *(struct perf_event_attr *)arg[0];
        int is_level = attr.type == CQM_TYPE && attr.config == CQM_OCCUPANCY;
        uint64_t rate = rate_of(&attr);

        if (rate) {
            become_software(&attr);
            result = real(number, &attr, arg[1], arg[2], arg[3], arg[4]);
            remember(result, rate, is_level ? now() : 0);
        }
    }
    return result;
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
