/* SPDX-License-Identifier: MIT */
/* Locks on images: which bytes, who is refused, together with QEMU's programs. */
#include "tests/unit/file-node.h"

#include <signal.h>
#include <sys/wait.h>

#include "block/fdset.h"

enum { SHARE_ALL = PERM_ALL, SHARE_READ = PERM_READ };

static int change(struct node *n, unsigned perm, unsigned shared, struct err *err)
{
    int r = n->driver->permissions(n, perm, shared, PERM_PREPARE, err);
    ck_assert_int_eq(r < 0, err->msg != NULL);
    if (r == 0) {
        ck_assert_int_eq(n->driver->permissions(n, perm, shared, PERM_COMMIT, err), 0);
        n->perm = perm;
        n->shared = shared;
    }
    return r;
}

static void grant(struct node *n, unsigned perm, unsigned shared)
{
    autoerr err = { 0 };
    int r = change(n, perm, shared, &err);
    ck_assert_msg(r == 0, "%s", err.msg);
}

static void deny(struct node *n, unsigned perm, unsigned shared, const char *sentence)
{
    autoerr err = { 0 };
    ck_assert_int_lt(change(n, perm, shared, &err), 0);
    ck_assert_str_eq(err.msg, sentence);
}

/* The bytes 100..103 and 200..203 that somebody else than this open file has locked: low and high 4 bits. */
static unsigned locked_bytes(const char *path)
{
    autoclose int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned bits = 0;
    for (int i = 0; i < 8; i++) {
        struct flock l = { .l_type = F_WRLCK, .l_start = (i < 4 ? 100 : 196) + i, .l_len = 1 };
        ck_assert_int_eq(fcntl(fd, F_OFD_GETLK, &l), 0);
        bits |= (l.l_type != F_UNLCK) << i;
    }
    return bits;
}

RING_TEST(bytes)
{
    const char *path = file_make(PLACE_DISK, "a", 4096);
    struct node *n = NODE_UP(.filename = path);
    ck_assert_uint_eq(locked_bytes(path), 0); /* nobody uses it */
    grant(n, PERM_READ, SHARE_ALL);
    ck_assert_uint_eq(locked_bytes(path), 0x81);
    grant(n, PERM_READ | PERM_WRITE | PERM_RESIZE, SHARE_READ);
    ck_assert_uint_eq(locked_bytes(path), 0xeb);
    grant(n, PERM_READ | PERM_WRITE_UNCHANGED, SHARE_READ | PERM_WRITE);
    ck_assert_uint_eq(locked_bytes(path), 0xe5);
    grant(n, 0, SHARE_ALL);
    ck_assert_uint_eq(locked_bytes(path), 0);
    grant(n, PERM_ALL, 0);
    ck_assert_uint_eq(locked_bytes(path), 0xff);
    node_down(n);
    ck_assert_uint_eq(locked_bytes(path), 0);
}

RING_TEST(two_nodes)
{
    const char *path = file_make(PLACE_DISK, "a", 4096);
    char used[256], shared[256];
    snprintf(used, sizeof(used),
             "Failed to get \"write\" lock: is another process or node using the image '%s'?",
             path);
    snprintf(
        shared, sizeof(shared),
        "Failed to get shared \"resize\" lock: is another process or node using the image '%s'?",
        path);
    struct node *a = NODE_UP(.filename = path), *b = NODE_UP(.filename = path);
    grant(a, PERM_READ | PERM_WRITE, SHARE_READ);
    deny(b, PERM_READ | PERM_WRITE, SHARE_ALL, used);
    ck_assert_uint_eq(locked_bytes(path), 0xe3); /* what was refused left nothing */
    grant(b, PERM_READ, SHARE_READ | PERM_WRITE | PERM_RESIZE);
    grant(b, 0, SHARE_ALL);
    grant(a, PERM_READ | PERM_RESIZE, SHARE_READ | PERM_WRITE);
    deny(b, PERM_READ, SHARE_READ, shared);
    deny(b, PERM_READ, SHARE_ALL, shared); /* a reader does not let anybody cut off what it reads */
    grant(a, 0, SHARE_ALL);
    grant(b, PERM_READ | PERM_WRITE, SHARE_READ);
    node_down(a);
    node_down(b);
}

/* Whoever shares writing shares it within the graph: other programs and nodes are kept out all the same. */
RING_TEST(writers_exclude)
{
    const char *path = file_make(PLACE_DISK, "a", 4096);
    char text[256];
    snprintf(text, sizeof(text),
             "Failed to get \"write\" lock: is another process or node using the image '%s'?",
             path);
    struct node *a = NODE_UP(.filename = path), *b = NODE_UP(.filename = path);
    grant(a, PERM_READ | PERM_WRITE, SHARE_ALL);
    ck_assert_uint_eq(locked_bytes(path), 0xa3);
    deny(b, PERM_READ | PERM_WRITE, SHARE_ALL, text);
    grant(b, PERM_READ, SHARE_ALL);
    node_down(a);
    grant(b, PERM_READ | PERM_WRITE, SHARE_ALL);
    node_down(b);
}

RING_TEST(prepare_and_abort)
{
    const char *path = file_make(PLACE_MEMORY, "a", 4096);
    struct node *n = NODE_UP(.filename = path);
    autoerr err = { 0 };
    grant(n, PERM_READ, SHARE_ALL);
    ck_assert_int_eq(n->driver->permissions(n, PERM_WRITE, SHARE_READ, PERM_PREPARE, &err), 0);
    /* Both the old and the new ones until it is decided. */
    ck_assert_uint_eq(locked_bytes(path), 0xe3);
    ck_assert_int_eq(n->driver->permissions(n, PERM_WRITE, SHARE_READ, PERM_ABORT, &err), 0);
    ck_assert_uint_eq(locked_bytes(path), 0x81);
    node_down(n);
}

RING_TEST(unrelated_descriptor)
{
    const char *path = file_make(PLACE_DISK, "a", 4096);
    struct node *n = NODE_UP(.filename = path);
    grant(n, PERM_WRITE, SHARE_READ);
    for (int i = 0; i < 3; i++)
        close(open(path, O_RDWR));
    ck_assert_uint_eq(locked_bytes(path), 0xe2);
    node_down(n);
}

RING_TEST(off_and_forced)
{
    const char *path = file_make(PLACE_DISK, "a", 4096);
    struct node *a = NODE_UP(.filename = path);
    struct node *off = NODE_UP(.filename = path, .no_locking = true);
    struct node *forced = NODE_UP(.filename = path, .read_only = true, .force_share = true);
    grant(a, PERM_READ | PERM_WRITE, SHARE_READ);
    grant(off, PERM_ALL, 0);
    ck_assert_uint_eq(locked_bytes(path), 0xe3);
    grant(forced, PERM_READ, SHARE_READ);
    node_down(a);
    ck_assert_uint_eq(locked_bytes(path), 0x01);
    node_down(off);
    node_down(forced);
}

static struct node *up_by_set(int64_t id, bool auto_read_only)
{
    static char path[64];
    snprintf(path, sizeof(path), "/dev/fdset/%lld", (long long)id);
    return NODE_UP(.filename = path, .auto_read_only = auto_read_only);
}

static int64_t add_to_set(const int64_t *id, const char *path, int flags)
{
    autoerr err = { 0 };
    int64_t out = -1;
    ck_assert_int_eq(fdset_add(id, open(path, flags | O_CLOEXEC), NULL, &out, &err), 0);
    return out;
}

/* Read-only at first, opened for writing when somebody wants to write: same number, locks kept. */
RING_TEST(writable_on_demand)
{
    const char *path = file_make(PLACE_DISK, "a", 4096);
    fdset_client_came();
    int64_t id = add_to_set(NULL, path, O_RDONLY);
    struct node *n = up_by_set(id, true);
    int fd = file_of(n)->fd;
    ck_assert(n->read_only);
    struct map m;
    ck_assert_int_eq(n->driver->map(n, 0, 4096, true, false, &m), 0);
    ck_assert_int_eq(m.kind, MAP_LONG_ROAD);
    grant(n, PERM_READ, SHARE_ALL);
    ck_assert_uint_eq(locked_bytes(path), 0x81);

    autoerr err = { 0 };
    ck_assert_int_eq(change(n, PERM_READ | PERM_WRITE, SHARE_READ, &err), -EACCES);
    ck_assert_ptr_nonnull(strstr(err.msg, "/dev/fdset/"));
    err_clear(&err);
    ck_assert(n->read_only);
    ck_assert_uint_eq(locked_bytes(path), 0x81);

    add_to_set(&id, path, O_RDWR);
    ck_assert_int_eq(
        n->driver->permissions(n, PERM_READ | PERM_WRITE, SHARE_READ, PERM_PREPARE, &err), 0);
    ck_assert_int_eq(
        n->driver->permissions(n, PERM_READ | PERM_WRITE, SHARE_READ, PERM_ABORT, &err), 0);
    ck_assert(n->read_only);
    ck_assert_uint_eq(locked_bytes(path), 0x81);

    grant(n, PERM_READ | PERM_WRITE, SHARE_READ);
    ck_assert(!n->read_only);
    ck_assert_int_eq(file_of(n)->fd, fd);
    ck_assert_uint_eq(locked_bytes(path), 0xe3);
    ck_assert_int_eq(n_write(n, 0, "yes", 3, 0), 0);
    ck_assert_int_eq(n->driver->map(n, 0, 4096, true, false, &m), 0);
    ck_assert_int_eq(m.kind, MAP_HERE);
    grant(n, PERM_READ, SHARE_ALL);
    ck_assert_uint_eq(locked_bytes(path), 0x81);
    autoerr none = { 0 };
    ck_assert_int_eq(fdset_remove(id, NULL, &none), 0);
    node_down(n);
    fdset_client_left();
    ck_assert_uint_eq(locked_bytes(path), 0);
}

RING_TEST(read_only_stays)
{
    const char *path = file_make(PLACE_DISK, "a", 4096);
    struct node *n = NODE_UP(.filename = path, .read_only = true);
    deny(n, PERM_WRITE, SHARE_ALL, "Block node 'n' is read-only");
    ck_assert_uint_eq(locked_bytes(path), 0);
    node_down(n);
}

/* ---- with QEMU's programs ---- */

static bool have(const char *program)
{
    char command[128];
    snprintf(command, sizeof(command), "command -v %s >/dev/null 2>&1", program);
    return system(command) == 0;
}

/* What a command says, and whether it failed. */
static int output_of(const char *command, char *text, size_t room)
{
    FILE *p = popen(command, "r");
    ck_assert_ptr_nonnull(p);
    size_t n = fread(text, 1, room - 1, p);
    text[n] = 0;
    return pclose(p);
}

RING_TEST(qemu_is_refused)
{
    if (!have("qemu-io")) {
        fprintf(stderr, "qemu_is_refused: skipped, no qemu-io\n");
        return;
    }
    const char *path = file_make(PLACE_DISK, "a", 1 << 20);
    char command[256], text[1024];
    struct node *n = NODE_UP(.filename = path);
    snprintf(command, sizeof(command), "timeout 20 qemu-io -f raw -c 'write 0 512' %s 2>&1", path);
    grant(n, PERM_READ | PERM_WRITE, SHARE_READ);
    ck_assert_int_ne(output_of(command, text, sizeof(text)), 0);
    ck_assert_msg(strstr(text, "Failed to get \"write\" lock"), "%s", text);
    ck_assert(n_holds(n, 0, 512, 0));
    grant(n, PERM_READ | PERM_WRITE, SHARE_ALL);
    ck_assert_int_ne(output_of(command, text, sizeof(text)), 0);
    grant(n, PERM_READ, SHARE_READ);
    ck_assert_int_ne(output_of(command, text, sizeof(text)), 0);
    grant(n, PERM_READ, SHARE_ALL);
    ck_assert_int_eq(output_of(command, text, sizeof(text)), 0);
    node_down(n);
}

/* A qemu-storage-daemon that writes to @path, not sharing that; returns once it has the image. */
static pid_t start_writer(const char *path)
{
    char ready[160], blockdev[256];
    snprintf(ready, sizeof(ready), "%s.pid", path);
    /* The lock byte 203 tells that its copy of the image is open. */
    snprintf(blockdev, sizeof(blockdev), "raw,node-name=r,file.driver=file,file.filename=%s", path);
    char listen[200];
    snprintf(listen, sizeof(listen), "addr.type=unix,addr.path=%s.sock", path);
    pid_t pid = fork();
    if (pid == 0) {
        execlp("timeout", "timeout", "30", "qemu-storage-daemon", "--blockdev", blockdev,
               "--nbd-server", listen, "--export", "nbd,id=e,node-name=r,writable=on", "--pidfile",
               ready, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 100 && access(ready, F_OK) != 0; i++)
        usleep(50000);
    ck_assert_int_eq(access(ready, F_OK), 0);
    return pid;
}

RING_TEST(qemu_came_first)
{
    if (!have("qemu-storage-daemon")) {
        fprintf(stderr, "qemu_came_first: skipped, no qemu-storage-daemon\n");
        return;
    }
    const char *path = file_make(PLACE_DISK, "a", 1 << 20);
    struct node *n = NODE_UP(.filename = path);
    pid_t pid = start_writer(path);
    autoerr err = { 0 };
    int r = change(n, PERM_READ | PERM_WRITE, SHARE_READ, &err);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    ck_assert_int_lt(r, 0);
    ck_assert_msg(strncmp(err.msg, "Failed to get shared \"write\" lock", 33) == 0, "%s", err.msg);
    grant(n, PERM_READ | PERM_WRITE, SHARE_READ);
    node_down(n);
}

int main(void)
{
    const TTest *tests[] = { bytes,
                             two_nodes,
                             writers_exclude,
                             prepare_and_abort,
                             unrelated_descriptor,
                             off_and_forced,
                             writable_on_demand,
                             read_only_stays,
                             qemu_is_refused,
                             qemu_came_first };
    return run_tests("file-lock", tests, sizeof(tests) / sizeof(*tests));
}
