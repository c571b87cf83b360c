/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives a libvirtd into which it is preloaded the PMUs that its host lacks.
 *
 * - A hardware event that the kernel refuses becomes a software clock: it
 *   counts nanoseconds of CPU time of the very threads that the event would
 *   count, is inherited by new threads as the event would be, and is lost
 *   where the event would be lost. A hardware event that works stays real.
 * - Intel's cache monitoring PMU, which Linux dropped in 4.14, is read from
 *   CQM_HERE. Its occupancy is the page faults of the guest, which libvirt
 *   scales by a page, its bandwidths are software clocks.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>

#define CQM_SYSFS "/sys/devices/intel_cqm/"
#define CQM_HERE "/run/libvirt/intel_cqm/"
#define CQM_TYPE 57005 /* as CQM_HERE "type" says */
#define CQM_OCCUPANCY 1

typedef long (*syscall_fn)(long, ...);
typedef int (*open_fn)(const char *, int, ...);

/* libvirt hands LD_PRELOAD on to QEMU, which has no use for this. */
__attribute__((constructor)) static void stay_in_libvirtd(void)
{
    unsetenv("LD_PRELOAD");
}

static void become_software(struct perf_event_attr *attr)
{
    int occupancy = attr->type == CQM_TYPE && attr->config == CQM_OCCUPANCY;

    attr->type = PERF_TYPE_SOFTWARE;
    attr->config = occupancy ? PERF_COUNT_SW_PAGE_FAULTS
                             : PERF_COUNT_SW_TASK_CLOCK;
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

        if (attr.type == PERF_TYPE_HARDWARE || attr.type == CQM_TYPE) {
            become_software(&attr);
            result = real(number, &attr, arg[1], arg[2], arg[3], arg[4]);
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
