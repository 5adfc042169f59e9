/* SPDX-License-Identifier: MIT */
/*
 * How many CPUs this process may use: those of its affinity mask, and no more
 * than its cgroups' CPU quota rounded up.
 */
#include "uring/engine.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

static unsigned affinity(cpu_set_t *set)
{
    CPU_ZERO(set);
    if (sched_getaffinity(0, sizeof(*set), set) < 0)
        CPU_SET(0, set);
    return (unsigned)CPU_COUNT(set);
}

int cpu_pick(unsigned nth)
{
    cpu_set_t set;
    unsigned count = affinity(&set);

    nth %= count;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET((unsigned)i, &set) && nth-- == 0)
            return i;
    return -1;
}

/* First line of a file; false when there is none. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(line, (int)size, f) != NULL;
    fclose(f);
    return ok;
}

/* quota / period rounded up, at least 1; 0 when there is no limit. */
static unsigned quota_cpus(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    long long n = (quota + period - 1) / period;
    return n > RINGS_MAX ? RINGS_MAX : (unsigned)n;
}

/* The limit of one group, cgroup v2 ("max 100000" or "QUOTA PERIOD") or v1 (a file each). */
static unsigned group_limit(const char *root, const char *mount, const char *group)
{
    char path[PATH_BYTES + 128], line[64];
    long long quota = 0, period = 0;

    snprintf(path, sizeof(path), "%s%s%s/cpu.max", root, mount, group);
    if (read_line(path, line, sizeof(line)))
        return sscanf(line, "%lld %lld", &quota, &period) == 2 ? quota_cpus(quota, period) : 0;
    snprintf(path, sizeof(path), "%s%s%s/cpu.cfs_quota_us", root, mount, group);
    if (!read_line(path, line, sizeof(line)) || sscanf(line, "%lld", &quota) != 1)
        return 0;
    snprintf(path, sizeof(path), "%s%s%s/cpu.cfs_period_us", root, mount, group);
    if (!read_line(path, line, sizeof(line)) || sscanf(line, "%lld", &period) != 1)
        return 0;
    return quota_cpus(quota, period);
}

/* The smallest limit of the group and all above it. */
static unsigned path_limit(const char *root, const char *mount, char *group)
{
    unsigned least = 0;

    for (;;) {
        unsigned n = group_limit(root, mount, group);
        if (n && (!least || n < least))
            least = n;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

/* Is "cpu" among the controllers of a line "N:a,cpu,b:/group" of /proc/self/cgroup? */
static bool names_cpu(const char *controllers)
{
    for (const char *p = strstr(controllers, "cpu"); p; p = strstr(p + 1, "cpu"))
        if ((p == controllers || p[-1] == ',') && (p[3] == ',' || p[3] == 0))
            return true;
    return false;
}

static unsigned cgroup_limit(const char *root)
{
    char line[PATH_BYTES], path[PATH_BYTES];
    unsigned least = 0;

    snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;
        controllers++;
        unsigned n = 0;
        if (!*controllers)
            n = path_limit(root, "/sys/fs/cgroup", group);
        else if (names_cpu(controllers))
            n = path_limit(root, "/sys/fs/cgroup/cpu", group);
        if (n && (!least || n < least))
            least = n;
    }
    fclose(f);
    return least;
}

unsigned cpus_allowed(const char *root)
{
    cpu_set_t set;
    unsigned count = affinity(&set), limit = cgroup_limit(root);

    return limit && limit < count ? limit : count;
}
