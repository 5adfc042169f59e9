/* SPDX-License-Identifier: MIT */
/*
 * qmp/monitor*.c: what a client sees, over socket pairs and pipes on real rings.  Client and monitor
 * share the control ring; the client is the test's own coroutine.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "qmp/commands.h"
#include "tests/unit/ring-fixture.h"
#include "uring/await.h"
#include "uring/sync.h"

/* ---- commands for tests ---- */

struct echo_args {
    struct json_object *value;
    bool has_bytes;
    uint32_t bytes;
};

static const struct row echo_rows[] = { ROW_OPT(struct echo_args, "value", value, row_any),
                                        ROW_HAS(struct echo_args, "bytes", bytes, row_uint32),
                                        ROW_END };
static ROW_STRUCT_TYPE(echo_type, "EchoArgs", struct echo_args, echo_rows);

static unsigned runs;
static bool gate_open;
static struct co_cond gate = CO_COND_INIT(gate);

static int co_fn run_echo(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m, (void)err;
    runs++;
    *(struct json_object **)result = take_ptr(&((struct echo_args *)args)->value);
    return 0;
}

/* A string of so many bytes. */
static int co_fn run_large(struct monitor *m, void *args, void *result, struct err *err)
{
    uint32_t n = ((struct echo_args *)args)->bytes;
    autofree char *text = malloc(n + 1);

    (void)m, (void)err;
    runs++;
    memset(text, 'x', n);
    *(struct json_object **)result = json_object_new_string_len(text, (int)n);
    return 0;
}

static int co_fn run_wait(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m, (void)args, (void)result, (void)err;
    runs++;
    while (!gate_open)
        co_cond_wait(&gate, NULL);
    return 0;
}

/* The inode of the descriptor that came along, as a number; an error when there is none. */
static int co_fn run_take(struct monitor *m, void *args, void *result, struct err *err)
{
    autoclose int fd = monitor_take_fd(m);
    struct stat st;

    (void)args;
    if (fd < 0)
        return err_set(err, -EBADF, "none came");
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fstat(fd, &st), 0);
    *(struct json_object **)result = json_object_new_int64((int64_t)st.st_ino);
    return 0;
}

static const struct qmp_command test_commands[] = {
    { .name = "echo", .args = &echo_type, .result = &row_any, .run = run_echo },
    { .name = "echo-oob",
      .args = &echo_type,
      .result = &row_any,
      .run = run_echo,
      .flags = QMP_ALLOW_OOB },
    { .name = "large", .args = &echo_type, .result = &row_any, .run = run_large },
    { .name = "wait", .run = run_wait },
    { .name = "wait-oob", .run = run_wait, .flags = QMP_ALLOW_OOB },
    { .name = "take", .result = &row_any, .run = run_take },
    { 0 },
};

/* ---- clients ---- */

struct client {
    int in, out; /* the test's ends */
    bool ended;
    char *text; /* received and not yet handed out; owned */
    size_t len, room;
};

static void ended(void *arg)
{
    ((struct client *)arg)->ended = true;
}

static void serve(struct client *c, int in, int out, const struct monitor_options *options)
{
    autoerr err = { 0 };
    ck_assert_msg(monitor_serve(in, out, options, ended, c, &err) == 0, "%s", err.msg);
}

static void connect_client(struct client *c, const struct monitor_options *options)
{
    int ends[2];
    *c = (struct client){ 0 };
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    c->in = c->out = ends[0];
    serve(c, ends[1], ends[1], options);
}

static uint64_t soon(void)
{
    return ring_now() + UINT64_C(60000000000);
}

/* The next line without its end, to be freed; NULL at the end of the stream. */
static char *co_fn next_line(struct client *c)
{
    for (;;) {
        char *end = c->len ? memmem(c->text, c->len, "\r\n", 2) : NULL;
        if (end) {
            size_t n = (size_t)(end - c->text);
            char *line = strndup(c->text, n);
            c->len -= n + 2;
            memmove(c->text, end + 2, c->len);
            return line;
        }
        if (c->room - c->len < 65536)
            c->text = realloc(c->text, c->room += 1 << 20);
        int r = c->in == c->out
                    ? co_recv(c->in, c->text + c->len, c->room - c->len, 0, soon())
                    : co_read(c->in, c->text + c->len, (unsigned)(c->room - c->len), UINT64_MAX);
        if (r == 0 || r == -ECONNRESET) {
            ck_assert_uint_eq(c->len, 0);
            return NULL;
        }
        ck_assert_msg(r > 0, "reading: %s", strerror(-r));
        c->len += (size_t)r;
    }
}

static void co_fn say_bytes(struct client *c, const char *text, size_t len)
{
    if (c->in == c->out)
        ck_assert_int_ge(co_send_all(c->out, text, len, soon()), 0);
    else
        ck_assert_int_eq(co_write(c->out, text, (unsigned)len, UINT64_MAX, 0), (int)len);
}

static void co_fn say(struct client *c, const char *text)
{
    say_bytes(c, text, strlen(text));
}

#define expect(c, text)                                                                            \
    do {                                                                                           \
        autofree char *line_ = next_line(c);                                                       \
        ck_assert_pstr_eq(line_, text);                                                            \
    } while (0)
#define expect_like(c, part)                                                                       \
    do {                                                                                           \
        autofree char *line_ = next_line(c);                                                       \
        ck_assert_msg(line_ &&strstr(line_, part), "%s does not have %s", line_, part);            \
    } while (0)

static void co_fn leave(struct client *c)
{
    close(c->in);
    if (c->out != c->in)
        close(c->out);
    for (uint64_t end = soon(); !c->ended;) {
        ck_assert(ring_now() < end);
        co_sleep(100000);
    }
    free(c->text);
}

static void co_fn negotiate(struct client *c, bool oob)
{
    expect_like(c, "{\"QMP\": {");
    say(c, oob ? "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}"
               : "{'execute':'qmp_capabilities'}");
    expect(c, "{\"return\": {}}");
}

static void co_fn arrive(struct client *c)
{
    connect_client(c, NULL);
    negotiate(c, false);
}

static void open_gate(void)
{
    gate_open = true;
    co_cond_wake_all(&gate);
}

static void co_fn until_runs(unsigned n)
{
    for (uint64_t end = soon(); runs < n;) {
        ck_assert(ring_now() < end);
        co_sleep(100000);
    }
}

/* ---- fixture ---- */

#define CO_TEST(name)                                                                              \
    static void co_fn name##_co(void);                                                             \
    START_TEST(name)                                                                               \
    {                                                                                              \
        run_co(name##_co);                                                                         \
    }                                                                                              \
    END_TEST                                                                                       \
    static void co_fn name##_co(void)

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static unsigned descriptors;

static void up(void)
{
    autoerr err = { 0 };
    rings_up();
    ck_assert_int_eq(qmp_register(qmp_monitor_commands, &err), 0);
    ck_assert_int_eq(qmp_register(qmp_fd_commands, &err), 0);
    ck_assert_int_eq(qmp_register(test_commands, &err), 0);
    descriptors = open_descriptors();
    runs = 0;
    gate_open = false;
}

static void down(void)
{
    ck_assert_uint_eq(monitors_count(), 0);
    ck_assert_uint_eq(open_descriptors(), descriptors);
    qmp_unregister_all();
    rings_down();
}

/* ---- greeting, negotiation ---- */

CO_TEST(greeting_and_negotiation)
{
    struct client c;
    connect_client(&c, NULL);
    expect_like(&c, "\"capabilities\": [\"oob\"]}}");
    say(&c, "{'execute':'echo','id':1}");
    expect(&c, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Expecting capabilities "
               "negotiation with 'qmp_capabilities'\"}, \"id\": 1}");
    ck_assert_uint_eq(runs, 0);
    say(&c, "{'execute':'qmp_capabilities','arguments':{'enable':['mutant']}}");
    expect_like(&c, "\"GenericError\"");
    say(&c, "{'execute':'qmp_capabilities','arguments':{'enable':[]}}");
    expect(&c, "{\"return\": {}}");
    say(&c, "{'execute':'qmp_capabilities'}");
    expect_like(&c, "Capabilities negotiation is already complete, command ignored");
    say(&c, "{'exec-oob':'echo-oob'}");
    expect_like(&c, "QMP input member 'exec-oob' is unexpected");
    leave(&c);
}

/* ---- framing ---- */

CO_TEST(pieces_and_packets)
{
    struct client c;
    arrive(&c);
    for (const char *p = "{\"execute\": \"echo\", \"arguments\": {\"value\": [1, {}]}}"; *p; p++) {
        say_bytes(&c, p, 1);
        co_pause();
    }
    expect(&c, "{\"return\": [1, {}]}");
    say(&c,
        "{'execute':'echo','arguments':{'value':1}}\r\n{'execute':'echo','arguments':{'value':2}}"
        "{'execute':'echo','arguments':{'value':3}}\n \t\n{'execute':'ec");
    expect(&c, "{\"return\": 1}");
    expect(&c, "{\"return\": 2}");
    expect(&c, "{\"return\": 3}");
    say(&c, "ho','arguments':{'value':'\\u00e9\xc3\xa9'}}");
    expect(&c, "{\"return\": \"\\u00E9\\u00E9\"}");
    leave(&c);
}

/* More requests than wait at a time: all are answered, in order. */
CO_TEST(many_in_one_packet)
{
    enum { MANY = 500 };
    autofree char *all = malloc(MANY * 64);
    char *end = all;
    struct client c;
    for (int i = 0; i < MANY; i++)
        end += sprintf(end, "{'execute':'echo','id':%d}", i);
    arrive(&c);
    say(&c, all);
    for (int i = 0; i < MANY; i++) {
        char want[64];
        snprintf(want, sizeof(want), "{\"return\": null, \"id\": %d}", i);
        expect(&c, want);
    }
    leave(&c);
}

CO_TEST(ids_of_every_type)
{
    static const char *const ids[] = {
        "0", "-9223372036854775808", "\"x\"", "true", "null", "1.5", "[1, [], {}]", "{\"a\": null}"
    };
    struct client c;
    arrive(&c);
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        char text[200];
        snprintf(text, sizeof(text), "{\"id\": %s, \"execute\": \"echo\"}", ids[i]);
        say(&c, text);
        snprintf(text, sizeof(text), "{\"return\": null, \"id\": %s}", ids[i]);
        expect(&c, text);
        snprintf(text, sizeof(text), "{\"id\": %s, \"execute\": \"mutant\"}", ids[i]);
        say(&c, text);
        snprintf(
            text, sizeof(text),
            "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command mutant has not "
            "been found\"}, \"id\": %s}",
            ids[i]);
        expect(&c, text);
    }
    leave(&c);
}

CO_TEST(requests_that_are_none)
{
    static const char *const bad[][2] = {
        { "[]", "QMP input must be a JSON object" },
        { "null", "QMP input must be a JSON object" },
        { "{}", "QMP input lacks member 'execute'" },
        { "{'execute':1}", "QMP input member 'execute' must be a string" },
        { "{'execute':'echo','arguments':[]}", "QMP input member 'arguments' must be an object" },
        { "{'execute':'echo','x':1}", "QMP input member 'x' is unexpected" },
        { "{'execute':'echo','arguments':{'x':1}}", "Parameter 'x' is unexpected" },
        { "{'execute':'echo','execute':'echo'}", "JSON parse error" },
    };
    struct client c;
    arrive(&c);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        say(&c, bad[i][0]);
        say(&c, "\n");
        expect_like(&c, bad[i][1]);
    }
    ck_assert_uint_eq(runs, 0);
    leave(&c);
}

/* After each of these, one error; and the next request counts again. */
CO_TEST(garbage_and_resync)
{
    static const char *const bad[] = {
        "}",
        "]\n",
        "{'execute':}",
        "{\"a\": tru}",
        "{\"a\"\x01",
        "{\"exe\xff",
        "\x1b",
        "{'execute':'echo', 'id': '\xc3('}",
        "{'id':'\xed\xa0\x80'}",
        "{'execute':'echo' 'id':1}",
        "mutant\n",
        "[1 2]",
    };
    struct client c;
    arrive(&c);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        say(&c, bad[i]);
        expect_like(&c, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error");
        say(&c, "{'execute':'echo','id':7}");
        expect(&c, "{\"return\": null, \"id\": 7}");
    }
    leave(&c);
}

CO_TEST(too_deep_and_too_large)
{
    struct client c;
    arrive(&c);
    autofree char *deep = malloc(2 * (JSON_DEPTH_MAX + 1) + 1);
    memset(deep, '[', JSON_DEPTH_MAX + 1);
    memset(deep + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    deep[2 * (JSON_DEPTH_MAX + 1)] = 0;
    say(&c, deep);
    expect_like(&c, "\"GenericError\"");
    say(&c, "{'execute':'echo','id':1}");
    expect(&c, "{\"return\": null, \"id\": 1}");

    autofree char *large = malloc(1 << 20);
    memset(large, 'x', 1 << 20);
    say(&c, "{'execute':'");
    for (unsigned sent = 0; sent <= JSON_BYTES_MAX; sent += 1 << 20)
        say_bytes(&c, large, 1 << 20);
    say(&c, "'}");
    expect_like(&c, "\"GenericError\"");
    say(&c, "{'execute':'echo','id':2}");
    expect(&c, "{\"return\": null, \"id\": 2}");
    leave(&c);
}

CO_TEST(pretty_spreads_over_lines)
{
    static const struct monitor_options options = { .pretty = true };
    struct client c;
    connect_client(&c, &options);
    expect(&c, "{");
    expect(&c, "    \"QMP\": {");
    leave(&c);
}

/* ---- order ---- */

CO_TEST(out_of_band_overtakes)
{
    struct client c;
    connect_client(&c, NULL);
    negotiate(&c, true);
    say(&c, "{'execute':'wait','id':1}{'execute':'echo','id':2}{'exec-oob':'echo-oob','id':3}"
            "{'exec-oob':'wait-oob','id':4}{'exec-oob':'echo-oob','id':5}");
    expect(&c, "{\"return\": null, \"id\": 3}");
    expect(&c, "{\"return\": null, \"id\": 5}");
    say(&c, "{'exec-oob':'echo','id':6}{'exec-oob':'echo-oob','execute':'echo','id':7}");
    expect_like(&c, "The command echo does not support OOB");
    open_gate();
    expect(&c, "{\"return\": {}, \"id\": 1}");
    expect(&c, "{\"return\": {}, \"id\": 4}");
    expect(&c, "{\"return\": null, \"id\": 2}");
    expect_like(&c, "clashes with");
    leave(&c);
}

/* A full queue stops the reading, and nothing is lost by it. */
CO_TEST(waiting_requests_are_limited)
{
    struct client c;
    connect_client(&c, NULL);
    negotiate(&c, true);
    say(&c, "{'execute':'wait','id':0}");
    for (int i = 1; i < 20; i++) {
        char text[64];
        snprintf(text, sizeof(text), "{'execute':'echo','id':%d}", i);
        say(&c, text);
    }
    say(&c, "{'exec-oob':'echo-oob','id':'late'}"); /* behind a full queue it is not read */
    until_runs(1);
    co_sleep(5000000);
    ck_assert_uint_eq(runs, 1);
    open_gate();
    expect(&c, "{\"return\": {}, \"id\": 0}");
    bool late = false;
    for (int i = 1; i < 20; i++) {
        autofree char *line = next_line(&c);
        char want[64];
        snprintf(want, sizeof(want), "{\"return\": null, \"id\": %d}", i);
        if (!late && strstr(line, "late")) {
            late = true;
            i--;
            continue;
        }
        ck_assert_str_eq(line, want);
    }
    if (!late)
        expect(&c, "{\"return\": null, \"id\": \"late\"}");
    leave(&c);
}

CO_TEST(half_close_keeps_replies)
{
    struct client c;
    arrive(&c);
    say(&c, "{'execute':'wait','id':1}{'execute':'echo','id':2}{'execute':");
    ck_assert_int_eq(shutdown(c.out, SHUT_WR), 0);
    until_runs(1);
    open_gate();
    expect(&c, "{\"return\": {}, \"id\": 1}");
    expect(&c, "{\"return\": null, \"id\": 2}");
    ck_assert_ptr_null(next_line(&c));
    leave(&c);
}

CO_TEST(leaving_amid_a_command)
{
    struct client c;
    arrive(&c);
    say(&c, "{'execute':'wait'}{'execute':'echo'}");
    until_runs(1);
    close(c.in);
    c.in = c.out = -1;
    co_sleep(1000000);
    ck_assert(!c.ended); /* the command still runs, for it */
    open_gate();
    leave(&c);
}

/* ---- output ---- */

/* Who does not read is not read from: few of the commands run before somebody does. */
CO_TEST(flood_meets_the_brake)
{
    enum { MANY = 60, BYTES = 256 << 10 };
    struct client c;
    arrive(&c);
    for (int i = 0; i < MANY; i++) {
        char text[80];
        snprintf(text, sizeof(text), "{'execute':'large','arguments':{'bytes':%d},'id':%d}", BYTES,
                 i);
        say(&c, text);
    }
    until_runs(2);
    co_sleep(20000000);
    ck_assert_uint_lt(runs, 20);
    for (int i = 0; i < MANY; i++) {
        autofree char *line = next_line(&c);
        char end[32];
        snprintf(end, sizeof(end), "x\", \"id\": %d}", i);
        ck_assert_uint_gt(strlen(line), BYTES);
        ck_assert_str_eq(line + strlen(line) - strlen(end), end);
    }
    ck_assert_uint_eq(runs, MANY);
    leave(&c);
}

CO_TEST(who_does_not_read_events_is_cut_off)
{
    static const struct monitor_options options = { .output_limit = 100000 };
    struct client c, reader;
    connect_client(&c, &options);
    negotiate(&c, false);
    arrive(&reader);
    autofree char *text = malloc(10001);
    memset(text, 'e', 10000);
    text[10000] = 0;
    struct json_object *event = json_object_new_object();
    json_object_object_add(event, "event", json_object_new_string(text));
    unsigned sent = 0;
    for (; !c.ended && sent < 10000; sent++) {
        monitors_broadcast(event);
        expect_like(&reader, "eeee");
        co_sleep(10000);
    }
    json_object_put(event);
    ck_assert(c.ended);
    ck_assert_uint_gt(sent, 10); /* it had its chance */
    leave(&c);
    say(&reader, "{'execute':'echo'}");
    expect(&reader, "{\"return\": null}");
    leave(&reader);
}

CO_TEST(events_go_to_all_that_negotiated)
{
    struct client a, b, mute;
    struct json_object *event = json_object_new_object();
    json_object_object_add(event, "event", json_object_new_string("E"));
    arrive(&a);
    arrive(&b);
    connect_client(&mute, NULL);
    expect_like(&mute, "QMP");
    monitors_broadcast(event);
    expect(&a, "{\"event\": \"E\"}");
    expect(&b, "{\"event\": \"E\"}");
    leave(&b);
    monitors_broadcast(event);
    expect(&a, "{\"event\": \"E\"}");
    say(&mute, "{'execute':'qmp_capabilities'}");
    expect(&mute, "{\"return\": {}}");
    ck_assert_uint_eq(monitors_count(), 2);
    leave(&mute);
    leave(&a);
    json_object_put(event);
}

CO_TEST(pipes_will_do)
{
    struct client c = { 0 };
    int to[2], from[2];
    ck_assert_int_eq(pipe2(to, O_CLOEXEC) | pipe2(from, O_CLOEXEC), 0);
    c.in = from[0];
    c.out = to[1];
    serve(&c, to[0], from[1], NULL);
    negotiate(&c, false);
    say(&c, "{'execute':'large','arguments':{'bytes':300000}}{'execute':'echo','id':1}");
    expect_like(&c, "xxxx");
    expect(&c, "{\"return\": null, \"id\": 1}");
    leave(&c);
}

/* ---- descriptors ---- */

static uint64_t make_file(int *fd)
{
    struct stat st;
    *fd = memfd_create("passed", MFD_CLOEXEC);
    ck_assert_int_eq(fstat(*fd, &st), 0);
    return (uint64_t)st.st_ino;
}

static void co_fn pass(struct client *c, const char *text, const int *fds, unsigned n)
{
    char control[CMSG_SPACE(32 * sizeof(int))] = { 0 };
    struct iovec iov = { (char *)text, strlen(text) };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control,
                          .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(h), fds, n * sizeof(int));
    ck_assert_int_eq(co_sendmsg(c->out, &msg, 0, soon()), (int)strlen(text));
}

CO_TEST(descriptors_go_to_the_command_they_came_with)
{
    struct client c;
    char want[64];
    int fds[2];
    uint64_t inode = make_file(&fds[0]);
    make_file(&fds[1]);

    arrive(&c);
    say(&c, "{'execute':'take'}");
    expect_like(&c, "none came");
    pass(&c, "{'execute':'take'}", fds, 2);
    snprintf(want, sizeof(want), "{\"return\": %llu}", (unsigned long long)inode);
    expect(&c, want);
    say(&c, "{'execute':'take'}"); /* its companion went unused and is closed */
    expect_like(&c, "none came");
    pass(&c, "{'execute':'ta", fds, 1); /* with the first half of it */
    say(&c, "ke'}");
    expect(&c, want);
    int many[32];
    for (int i = 0; i < 32; i++)
        many[i] = fds[i % 2];
    pass(&c, "{'execute':'echo'}", many, 32); /* nobody asks */
    expect(&c, "{\"return\": null}");
    close(fds[0]);
    close(fds[1]);
    leave(&c); /* down() finds nothing open */
}

CO_TEST(named_descriptors_belong_to_their_client)
{
    struct client c;
    int fd;
    arrive(&c);
    make_file(&fd);
    pass(&c, "{'execute':'getfd','arguments':{'fdname':'a'}}", &fd, 1);
    expect(&c, "{\"return\": {}}");
    pass(&c, "{'execute':'getfd','arguments':{'fdname':'a'}}", &fd, 1); /* replaces it */
    expect(&c, "{\"return\": {}}");
    pass(&c, "{'execute':'getfd','arguments':{'fdname':'b'}}", &fd, 1);
    expect(&c, "{\"return\": {}}");
    say(&c, "{'execute':'closefd','arguments':{'fdname':'a'}}");
    expect(&c, "{\"return\": {}}");
    say(&c, "{'execute':'closefd','arguments':{'fdname':'a'}}");
    expect_like(&c, "File descriptor named 'a' not found");
    struct client other;
    arrive(&other);
    say(&other, "{'execute':'closefd','arguments':{'fdname':'b'}}");
    expect_like(&other, "File descriptor named 'b' not found");
    close(fd);
    leave(&other);
    leave(&c);
}

/* ---- the end ---- */

static void opens_gate_later(void *unused)
{
    (void)unused;
    co_sleep(2000000);
    open_gate();
}

CO_TEST(closing_waits_for_what_runs)
{
    struct client c, idle;
    arrive(&c);
    arrive(&idle);
    say(&c, "{'execute':'wait','id':1}");
    until_runs(1);
    ck_assert_int_eq(co_start(opens_gate_later, NULL, "opens the gate"), 0);
    monitors_close(UINT64_C(60000000000));
    ck_assert(c.ended && idle.ended && monitors_count() == 0);
    expect(&c, "{\"return\": {}, \"id\": 1}");
    ck_assert_ptr_null(next_line(&c));
    ck_assert_ptr_null(next_line(&idle));
    leave(&c);
    leave(&idle);
}

int main(void)
{
    Suite *s = suite_create("monitor");
    TCase *t = tcase_create("monitor");
    tcase_set_timeout(t, 110);
    tcase_add_checked_fixture(t, up, down);
    tcase_add_test(t, greeting_and_negotiation);
    tcase_add_test(t, pieces_and_packets);
    tcase_add_test(t, many_in_one_packet);
    tcase_add_test(t, ids_of_every_type);
    tcase_add_test(t, requests_that_are_none);
    tcase_add_test(t, garbage_and_resync);
    tcase_add_test(t, too_deep_and_too_large);
    tcase_add_test(t, pretty_spreads_over_lines);
    tcase_add_test(t, out_of_band_overtakes);
    tcase_add_test(t, waiting_requests_are_limited);
    tcase_add_test(t, half_close_keeps_replies);
    tcase_add_test(t, leaving_amid_a_command);
    tcase_add_test(t, flood_meets_the_brake);
    tcase_add_test(t, who_does_not_read_events_is_cut_off);
    tcase_add_test(t, events_go_to_all_that_negotiated);
    tcase_add_test(t, pipes_will_do);
    tcase_add_test(t, descriptors_go_to_the_command_they_came_with);
    tcase_add_test(t, named_descriptors_belong_to_their_client);
    tcase_add_test(t, closing_waits_for_what_runs);
    suite_add_tcase(s, t);
    return run_suite(s);
}
