/* SPDX-License-Identifier: MIT */
/* Descriptors that clients hand over: by name (getfd), or in sets behind /dev/fdset/N (add-fd). */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/fdset.h"
#include "qmp/commands.h"

/* ---- by name ---- */

struct fdname_args {
    char *fdname;
};

static const struct row fdname_rows[] = {
    ROW_REQ(struct fdname_args, "fdname", fdname, row_str,
            .help = "The name; it does not begin with a digit"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_getfd_args, "getfd-arg", struct fdname_args, fdname_rows);

static int co_fn get_fd(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct fdname_args *a = args;
    autoclose int fd = monitor_take_fd(m);

    (void)result;
    if (fd < 0)
        return err_set(err, -EBADF, "No file descriptor supplied via SCM_RIGHTS");
    if (a->fdname[0] >= '0' && a->fdname[0] <= '9')
        return err_set(err, -EINVAL, "Parameter 'fdname' expects a name not starting with a digit");
    return monitor_name_fd(m, a->fdname, take_fd(&fd), err);
}

static int co_fn close_fd(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct fdname_args *a = args;
    autoclose int fd = monitor_named_fd(m, a->fdname);

    (void)result;
    return fd < 0 ? err_set(err, -ENOENT, "File descriptor named '%s' not found", a->fdname) : 0;
}

/* ---- sets ---- */

struct add_fd_args {
    bool has_fdset_id;
    int64_t fdset_id;
    char *opaque;
};

static const struct row add_fd_rows[] = {
    ROW_HAS(struct add_fd_args, "fdset-id", fdset_id, row_int,
            .help = "The set; default: a new one"),
    ROW_OPT(struct add_fd_args, "opaque", opaque, row_str, .help = "A note, for query-fdsets"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_add_fd_args, "add-fd-arg", struct add_fd_args, add_fd_rows);

struct add_fd_info {
    int64_t fdset_id, fd;
};

static const struct row add_fd_info_rows[] = {
    ROW_REQ(struct add_fd_info, "fdset-id", fdset_id, row_int, .help = "The set"),
    ROW_REQ(struct add_fd_info, "fd", fd, row_int, .help = "The descriptor's number in the daemon"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_add_fd_info, "AddfdInfo", struct add_fd_info, add_fd_info_rows,
                       .help = "Where a descriptor was put");

static int co_fn add_fd(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct add_fd_args *a = args;
    struct add_fd_info *info = result;
    int fd = monitor_take_fd(m);

    info->fd = fd;
    return fdset_add(a->has_fdset_id ? &a->fdset_id : NULL, fd, a->opaque, &info->fdset_id, err);
}

struct remove_fd_args {
    int64_t fdset_id;
    bool has_fd;
    int64_t fd;
};

static const struct row remove_fd_rows[] = {
    ROW_REQ(struct remove_fd_args, "fdset-id", fdset_id, row_int, .help = "The set"),
    ROW_HAS(struct remove_fd_args, "fd", fd, row_int, .help = "The descriptor; default: all"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_remove_fd_args, "remove-fd-arg", struct remove_fd_args, remove_fd_rows);

static int co_fn remove_fd(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct remove_fd_args *a = args;

    (void)m;
    (void)result;
    return fdset_remove(a->fdset_id, a->has_fd ? &a->fd : NULL, err);
}

struct fd_info {
    int64_t fd;
    char *opaque;
};

static const struct row fd_info_rows[] = {
    ROW_REQ(struct fd_info, "fd", fd, row_int, .help = "The descriptor's number in the daemon"),
    ROW_OPT(struct fd_info, "opaque", opaque, row_str, .help = "The note that came with it"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_fd_info, "FdsetFdInfo", struct fd_info, fd_info_rows,
                       .help = "A descriptor in a set");
static ROW_LIST_TYPE(row_fd_infos, row_fd_info);

struct set_info {
    int64_t fdset_id;
    struct row_list fds;
};

static const struct row set_info_rows[] = {
    ROW_REQ(struct set_info, "fdset-id", fdset_id, row_int, .help = "The set"),
    ROW_REQ(struct set_info, "fds", fds, row_fd_infos, .help = "Its descriptors"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_set_info, "FdsetInfo", struct set_info, set_info_rows,
                       .help = "A set of descriptors");
static ROW_LIST_TYPE(row_set_infos, row_set_info);

static int fill_set(const struct fdset_info *from, struct set_info *to)
{
    to->fdset_id = from->id;
    for (size_t i = 0; i < from->count; i++) {
        struct fd_info *f = row_list_append(&row_fd_infos, &to->fds);
        if (!f)
            return -ENOMEM;
        f->fd = from->fds[i].fd;
        if (from->fds[i].opaque && !(f->opaque = strdup(from->fds[i].opaque)))
            return -ENOMEM;
    }
    return 0;
}

static int co_fn query_sets(struct monitor *m, void *args, void *result, struct err *err)
{
    struct fdset_info *sets;
    size_t count;
    int r = fdset_query(&sets, &count, err);

    (void)m;
    (void)args;
    if (r < 0)
        return r;
    for (size_t i = 0; i < count && r >= 0; i++) {
        struct set_info *info = row_list_append(&row_set_infos, result);
        r = info ? fill_set(&sets[i], info) : -ENOMEM;
    }
    fdset_query_free(sets, count);
    return r < 0 ? err_set(err, r, "Out of memory") : 0;
}

const struct qmp_command qmp_fd_commands[] = {
    { .name = "getfd",
      .args = &row_getfd_args,
      .run = get_fd,
      .help = "Keep the descriptor that came with this command under a name of this client" },
    { .name = "closefd",
      .args = &row_getfd_args,
      .run = close_fd,
      .help = "Close a descriptor that getfd named" },
    { .name = "add-fd",
      .args = &row_add_fd_args,
      .result = &row_add_fd_info,
      .run = add_fd,
      .help = "Put the descriptor that came with this command into a set; /dev/fdset/N opens it" },
    { .name = "remove-fd",
      .args = &row_remove_fd_args,
      .run = remove_fd,
      .help = "Take one descriptor, or all, out of a set" },
    { .name = "query-fdsets",
      .result = &row_set_infos,
      .run = query_sets,
      .help = "All sets of descriptors" },
    { 0 },
};
