/* SPDX-License-Identifier: MIT */
/* Small files that users name. */
#include "crypto/read-file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "crypto/secret.h"

/* Up to @size bytes; fewer at the end of the file only. */
static ssize_t read_up_to(int fd, char *buffer, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = read(fd, buffer + done, size - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int read_file(const char *filename, size_t max, char **out, size_t *len, struct err *err)
{
    /* A pipe without a writer must not make open() wait. */
    autoclose int fd = open(filename, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    char *buffer;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set_errno(err, -errno, "cannot read '%s'", filename);
    if (!S_ISREG(st.st_mode))
        return err_set(err, -EINVAL, "cannot read '%s': it is no regular file", filename);
    buffer = malloc(max + 1);
    if (!buffer)
        return err_set(err, -ENOMEM, "cannot read '%s': out of memory", filename);
    n = read_up_to(fd, buffer, max + 1);
    if (n < 0) {
        secret_free(buffer, max + 1);
        return err_set_errno(err, (int)n, "cannot read '%s'", filename);
    }
    if ((size_t)n > max) {
        secret_free(buffer, max + 1);
        return err_set(err, -EFBIG, "cannot read '%s': it is larger than %zu bytes", filename, max);
    }
    buffer[n] = '\0';
    *out = buffer;
    *len = (size_t)n;
    return 0;
}
