/* SPDX-License-Identifier: MIT */
/* The shell's history. */
#include "tools/ctl-history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

/* mkdir -p of all folders of @path that lie below the first @from bytes; the last component is a file. */
static int make_folders(char *path, size_t from, struct err *err)
{
    for (char *slash = path + from; (slash = strchr(slash + 1, '/'));) {
        int r;

        *slash = 0;
        r = mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
        if (r < 0)
            err_set_errno(err, r, "cannot make the folder %s", path);
        *slash = '/';
        if (r < 0)
            return r;
    }
    return 0;
}

char *ctl_history_path(struct err *err)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    autofree char *path = NULL;
    int n;

    if (state && *state == '/') {
        n = asprintf(&path, "%s/ringblk/history", state);
    } else if (home && *home == '/') {
        n = asprintf(&path, "%s/.local/state/ringblk/history", home);
    } else {
        err_set(err, -ENOENT, "neither XDG_STATE_HOME nor HOME is set");
        return NULL;
    }
    if (n < 0) {
        path = NULL;
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    return make_folders(path, 0, err) < 0 ? NULL : take_ptr(&path);
}

/* Replace the file by its last lines; a shell that appends meanwhile loses a line, not the file. */
static int cut(const char *path, char *const *lines, size_t count, struct err *err)
{
    autofree char *draft = NULL;
    autoclose int fd = -1;
    FILE *f;

    if (asprintf(&draft, "%s.XXXXXX", path) < 0) {
        draft = NULL;
        return err_set(err, -ENOMEM, "out of memory");
    }
    fd = mkostemp(draft, O_CLOEXEC); /* 0600 */
    f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f)
        return err_set_errno(err, -errno, "cannot make %s", draft);
    take_fd(&fd);
    for (size_t i = 0; i < count; i++)
        fprintf(f, "%s\n", lines[i]);
    if (fclose(f) != 0 || rename(draft, path) < 0) {
        int r = -errno;
        unlink(draft);
        return err_set_errno(err, r, "cannot write %s", path);
    }
    return 0;
}

int ctl_history_load(const char *path, void (*fn)(const char *line, void *arg), void *arg,
                     struct err *err)
{
    char *last[CTL_HISTORY_MAX] = { 0 }; /* a ring */
    FILE *f = fopen(path, "re");
    autofree char *line = NULL;
    size_t count = 0, room = 0;
    ssize_t n;
    int r = 0;

    if (!f)
        return errno == ENOENT ? 0 : err_set_errno(err, -errno, "cannot read %s", path);
    while ((n = getline(&line, &room, f)) > 0) {
        char **place = &last[count++ % CTL_HISTORY_MAX];

        line[strcspn(line, "\n")] = 0;
        free(*place);
        *place = strdup(line);
    }
    fclose(f);
    /* In order: the oldest first. */
    char *lines[CTL_HISTORY_MAX];
    size_t kept = 0;
    for (size_t i = count > CTL_HISTORY_MAX ? count - CTL_HISTORY_MAX : 0; i < count; i++)
        if (last[i % CTL_HISTORY_MAX])
            lines[kept++] = last[i % CTL_HISTORY_MAX];
    if (count > 2 * CTL_HISTORY_MAX)
        r = cut(path, lines, kept, err);
    for (size_t i = 0; i < kept; i++) {
        fn(lines[i], arg);
        free(lines[i]);
    }
    return r;
}

int ctl_history_append(const char *path, const char *line, struct err *err)
{
    autoclose int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    autofree char *text = NULL;
    int n = asprintf(&text, "%s\n", line);

    if (n < 0) {
        text = NULL;
        return err_set(err, -ENOMEM, "out of memory");
    }
    if (fd < 0 || write(fd, text, (size_t)n) != n)
        return err_set_errno(err, -errno, "cannot write %s", path);
    return 0;
}
