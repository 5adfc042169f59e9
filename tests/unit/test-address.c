/* SPDX-License-Identifier: MIT */
/* base/address.c: addresses as text and JSON, sockets bound and connected by them, and what is refused. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"

enum { SOCKETS_MAX = 8 };

static char folder[64];

static void up(void)
{
    strcpy(folder, "/tmp/test-address.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void down(void)
{
    ck_assert_int_eq(rmdir(folder), 0); /* each test cleaned up */
}

/* "%s" in @text stands for the test's folder. */
static void parse(const char *text, struct socket_address *a)
{
    autoerr err = { 0 };
    char whole[512];
    const char *mark = strstr(text, "%s");
    if (mark)
        snprintf(whole, sizeof(whole), "%.*s%s%s", (int)(mark - text), text, folder, mark + 2);
    else
        snprintf(whole, sizeof(whole), "%s", text);
    ck_assert_msg(row_parse_text(&row_socket_address, whole, "type", a, &err) == 0, "%s", err.msg);
}

static int listen_on(const char *text, int fds[SOCKETS_MAX], struct err *err)
{
    struct socket_address a;
    unsigned count = SOCKETS_MAX;
    parse(text, &a);
    int r = address_listen(&a, NULL, NULL, fds, &count, err);
    row_release(&row_socket_address, &a);
    if (r < 0) {
        ck_assert_int_eq(r, err->code);
        return r;
    }
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
        ck_assert(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
    }
    return (int)count;
}

static int connect_to(const char *text, struct err *err)
{
    struct socket_address a;
    parse(text, &a);
    int fd = address_connect(&a, NULL, NULL, err);
    row_release(&row_socket_address, &a);
    if (fd >= 0) {
        ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
        ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    } else {
        ck_assert_int_eq(fd, err->code);
    }
    return fd;
}

static void check_refusal(int r, int code, const char *part, const struct err *err)
{
    ck_assert_msg(r == code, "%d (%s), not %d", r, err->msg, code);
    ck_assert_msg(strstr(err->msg, part), "%s", err->msg);
}

static void refuse_listen(const char *text, int code, const char *part)
{
    int fds[SOCKETS_MAX];
    autoerr err = { 0 };
    check_refusal(listen_on(text, fds, &err), code, part, &err);
}

static void refuse_connect(const char *text, int code, const char *part)
{
    autoerr err = { 0 };
    check_refusal(connect_to(text, &err), code, part, &err);
}

/* What @client says arrives through @listener. */
static void talk(int listener, int client)
{
    struct pollfd p = { .fd = listener, .events = POLLIN };
    char c = 0;
    ck_assert_int_eq(poll(&p, 1, 20000), 1);
    autoclose int served = accept(listener, NULL, NULL);
    ck_assert_int_ge(served, 0);
    ck_assert_int_eq(write(client, "x", 1), 1);
    ck_assert_int_eq(read(served, &c, 1), 1);
    ck_assert_int_eq(c, 'x');
}

static unsigned port_of(int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    return ntohs(sa.ss_family == AF_INET ? ((struct sockaddr_in *)&sa)->sin_port
                                         : ((struct sockaddr_in6 *)&sa)->sin6_port);
}

static bool have_ipv6(void)
{
    struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    autoclose int fd = socket(AF_INET6, SOCK_STREAM, 0);
    return fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
}

/* ---- text ---- */

START_TEST(text_forms)
{
    static const char *const forms[][2] = {
        { "inet,host=localhost,port=10809", "localhost:10809" },
        { "inet,host=::1,port=80", "[::1]:80" },
        { "unix,path=/a/b", "unix:/a/b" },
        { "unix,path=name,abstract=on", "unix:@name" },
        { "vsock,cid=3,port=99", "vsock:3:99" },
        { "fd,str=name", "fd:name" },
        { "{\"type\":\"unix\",\"path\":\"/x\"}", "unix:/x" },
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct socket_address a;
        parse(forms[i][0], &a);
        autofree char *text = address_text(&a);
        ck_assert_str_eq(text, forms[i][1]);
        row_release(&row_socket_address, &a);
    }
}
END_TEST

START_TEST(the_older_form)
{
    struct socket_address a;
    autoerr err = { 0 };
    ck_assert_int_eq(row_parse_text(&row_socket_address_legacy, "type=inet,data.host=h,data.port=1",
                                    NULL, &a, &err),
                     0);
    autofree char *text = address_text(&a);
    ck_assert_str_eq(text, "h:1");
    row_release(&row_socket_address_legacy, &a);
    ck_assert_int_eq(
        row_parse_text(&row_socket_address_legacy, "type=inet,host=h,port=1", NULL, &a, &err),
        -EINVAL);
}
END_TEST

/* ---- unix ---- */

START_TEST(unix_sockets_are_private)
{
    int fds[SOCKETS_MAX];
    char path[128];
    struct stat st;
    autoerr err = { 0 };
    snprintf(path, sizeof(path), "%s/s", folder);
    umask(0);
    ck_assert_int_eq(listen_on("unix,path=%s/s", fds, &err), 1);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    autoclose int client = connect_to("unix,path=%s/s", &err);
    talk(fds[0], client);

    char want[160];
    autofree char *own = address_of_socket(fds[0], false);
    autofree char *peer = address_of_socket(client, true),
                  *nameless = address_of_socket(client, false);
    snprintf(want, sizeof(want), "unix:%s", path);
    ck_assert_str_eq(own, want);
    ck_assert_str_eq(peer, want);
    ck_assert_str_eq(nameless, "unix:");

    struct socket_address a;
    parse("unix,path=%s/s", &a);
    refuse_listen("unix,path=%s/s", -EADDRINUSE, path); /* served */
    close(fds[0]);
    refuse_connect("unix,path=%s/s", -ECONNREFUSED, path);
    ck_assert_int_eq(listen_on("unix,path=%s/s", fds, &err), 1); /* stale: replaced */
    close(fds[0]);
    address_unlink(&a);
    address_unlink(&a); /* gone already */
    ck_assert_int_eq(access(path, F_OK), -1);
    row_release(&row_socket_address, &a);
}
END_TEST

START_TEST(other_files_stay)
{
    struct socket_address a;
    char path[128];
    snprintf(path, sizeof(path), "%s/file", folder);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    refuse_listen("unix,path=%s/file", -EADDRINUSE, "not a socket");
    parse("unix,path=%s/file", &a);
    address_unlink(&a);
    row_release(&row_socket_address, &a);
    ck_assert_int_eq(unlink(path), 0);
    refuse_connect("unix,path=%s/none", -ENOENT, "none");
    refuse_listen("unix,path=%s/none/s", -ENOENT, "none/s");
}
END_TEST

START_TEST(paths_of_any_length)
{
    char text[300], path[200];
    struct stat st;
    int fds[SOCKETS_MAX];
    const size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
    autoerr err = { 0 };

    snprintf(path, sizeof(path), "%s/", folder);
    while (strlen(path) < most)
        strcat(path, "p");
    snprintf(text, sizeof(text), "unix,path=%s", path);
    ck_assert_int_eq(listen_on(text, fds, &err), 1);
    ck_assert_int_eq(stat(path, &st), 0);
    close(fds[0]);
    unlink(path);
    strcat(text, "p");
    refuse_listen(text, -ENAMETOOLONG, "too long");
    refuse_connect(text, -ENAMETOOLONG, "too long");
    refuse_listen("unix,path=", -EINVAL, "empty");
}
END_TEST

START_TEST(abstract_names)
{
    int fds[SOCKETS_MAX], padded[SOCKETS_MAX];
    char name[64], tight[128], loose[160], want[80];
    autoerr err = { 0 };
    snprintf(name, sizeof(name), "test-address-%d", getpid());
    snprintf(tight, sizeof(tight), "unix,abstract=on,path=%s", name);
    snprintf(loose, sizeof(loose), "%s,tight=off", tight);
    ck_assert_int_eq(listen_on(tight, fds, &err), 1);
    refuse_connect(loose, -ECONNREFUSED, name); /* another name */
    ck_assert_int_eq(listen_on(loose, padded, &err), 1);
    refuse_listen(tight, -EADDRINUSE, name);
    autoclose int a = connect_to(tight, &err), b = connect_to(loose, &err);
    talk(fds[0], a);
    talk(padded[0], b);
    autofree char *text = address_of_socket(fds[0], false);
    snprintf(want, sizeof(want), "unix:@%s", name);
    ck_assert_str_eq(text, want);
    close(fds[0]);
    close(padded[0]);
    snprintf(tight, sizeof(tight), "unix,abstract=off,path=%%s/%s", name);
    ck_assert_int_eq(listen_on(tight, fds, &err), 1);
    struct socket_address plain;
    parse(tight, &plain);
    address_unlink(&plain); /* off is not on: this one has a file */
    row_release(&row_socket_address, &plain);
    close(fds[0]);
}
END_TEST

/* ---- inet ---- */

START_TEST(tcp_by_number)
{
    int fds[SOCKETS_MAX], one = 0;
    socklen_t len = sizeof(one);
    char text[100], want[40];
    autoerr err = { 0 };
    ck_assert_int_eq(listen_on("inet,host=127.0.0.1,port=0", fds, &err), 1);
    snprintf(text, sizeof(text), "inet,host=127.0.0.1,port=%u,keep-alive=on,numeric=on",
             port_of(fds[0]));
    autoclose int client = connect_to(text, &err);
    ck_assert_int_ge(client, 0);
    ck_assert_int_eq(getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, &len), 0);
    ck_assert_int_eq(one, 1);
    ck_assert_int_eq(getsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &one, &len), 0);
    ck_assert_int_eq(one, 1);
    autofree char *peer = address_of_socket(client, true);
    snprintf(want, sizeof(want), "127.0.0.1:%u", port_of(fds[0]));
    ck_assert_str_eq(peer, want);
    talk(fds[0], client);
    close(fds[0]);
    refuse_connect(text, -ECONNREFUSED, "127.0.0.1");
}
END_TEST

/* Ports that are taken are passed over, up to `to`. */
START_TEST(port_ranges)
{
    int first[SOCKETS_MAX], second[SOCKETS_MAX];
    char text[100];
    autoerr err = { 0 };
    unsigned port;
    do { /* a port whose successors exist */
        ck_assert_int_eq(listen_on("inet,host=127.0.0.1,port=0", first, &err), 1);
        port = port_of(first[0]);
    } while (port > 65000);
    snprintf(text, sizeof(text), "inet,host=127.0.0.1,port=%u", port);
    refuse_listen(text, -EADDRINUSE, "Failed to find an available port");
    snprintf(text, sizeof(text), "inet,host=127.0.0.1,port=%u,to=%u", port, port + 200);
    ck_assert_int_eq(listen_on(text, second, &err), 1);
    ck_assert_uint_gt(port_of(second[0]), port);
    ck_assert_uint_le(port_of(second[0]), port + 200);
    close(second[0]);
    snprintf(text, sizeof(text), "inet,host=127.0.0.1,port=%u,to=%u", port, port - 1);
    refuse_listen(text, -EINVAL, "'to' is below port");
    close(first[0]);
}
END_TEST

START_TEST(families)
{
    int fds[SOCKETS_MAX];
    autoerr err = { 0 };
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);

    ck_assert_int_eq(listen_on("inet,host=,port=0,ipv4=on", fds, &err), 1);
    ck_assert_int_eq(getsockname(fds[0], (struct sockaddr *)&sa, &len), 0);
    ck_assert_int_eq(sa.ss_family, AF_INET);
    close(fds[0]);
    refuse_listen("inet,host=,port=0,ipv4=off,ipv6=off", -EINVAL, "Cannot disable IPv4 and IPv6");
    refuse_listen("inet,host=127.0.0.1,port=0,ipv4=off", -ENOENT, "127.0.0.1");
    if (!have_ipv6())
        return;
    ck_assert_int_eq(listen_on("inet,host=::1,port=0,ipv6=on", fds, &err), 1);
    char text[80];
    snprintf(text, sizeof(text), "inet,host=::1,port=%u", port_of(fds[0]));
    autoclose int client = connect_to(text, &err);
    talk(fds[0], client);
    autofree char *own = address_of_socket(fds[0], false);
    ck_assert_int_eq(strncmp(own, "[::1]:", 6), 0);
    close(fds[0]);

    /* IPv6 alone: the same port stays free for IPv4. */
    ck_assert_int_eq(listen_on("inet,host=::,port=0,ipv4=off", fds, &err), 1);
    snprintf(text, sizeof(text), "inet,host=127.0.0.1,port=%u", port_of(fds[0]));
    refuse_connect(text, -ECONNREFUSED, "127.0.0.1");
    close(fds[0]);
    /* All of both, on one port. */
    int n = listen_on("inet,host=,port=0", fds, &err);
    ck_assert_int_ge(n, 1);
    for (int i = 1; i < n; i++)
        ck_assert_uint_eq(port_of(fds[i]), port_of(fds[0]));
    snprintf(text, sizeof(text), "inet,host=127.0.0.1,port=%u", port_of(fds[0]));
    autoclose int v4 = connect_to(text, &err);
    snprintf(text, sizeof(text), "inet,host=::1,port=%u", port_of(fds[0]));
    autoclose int v6 = connect_to(text, &err);
    ck_assert(v4 >= 0 && v6 >= 0);
    while (n)
        close(fds[--n]);
}
END_TEST

START_TEST(names_that_lead_nowhere)
{
    refuse_connect("inet,host=,port=1", -EINVAL, "host not specified");
    refuse_connect("inet,host=127.0.0.1,port=", -EINVAL, "port not specified");
    refuse_connect("inet,host=localhost,port=1,numeric=on", -ENOENT,
                   "address resolution failed for localhost:1");
    refuse_listen("inet,host=127.0.0.1,port=no-such-service", -ENOENT, "no-such-service");
    refuse_listen("inet,host=192.0.2.1,port=0", -EADDRNOTAVAIL, "192.0.2.1");
}
END_TEST

START_TEST(multipath)
{
    int fds[SOCKETS_MAX];
    char text[80];
    autoerr err = { 0 };
    int n = listen_on("inet,host=127.0.0.1,port=0,mptcp=on", fds, &err);
    if (n == -EPROTONOSUPPORT || n == -ENOPROTOOPT)
        return; /* this kernel has it not, or off */
    ck_assert_int_eq(n, 1);
    int protocol;
    socklen_t len = sizeof(protocol);
    ck_assert_int_eq(getsockopt(fds[0], SOL_SOCKET, SO_PROTOCOL, &protocol, &len), 0);
    ck_assert_int_eq(protocol, 262);
    snprintf(text, sizeof(text), "inet,host=127.0.0.1,port=%u,mptcp=off", port_of(fds[0]));
    autoclose int plain = connect_to(text, &err);
    talk(fds[0], plain);
    close(fds[0]);
}
END_TEST

/* ---- vsock, descriptors ---- */

START_TEST(vsock_numbers)
{
    refuse_listen("vsock,cid=x,port=1", -EINVAL, "cid 'x'");
    refuse_listen("vsock,cid=1,port=", -EINVAL, "port ''");
    refuse_connect("vsock,cid=4294967296,port=1", -EINVAL, "cid '4294967296'");
    refuse_connect("vsock,cid=1,port=-1", -EINVAL, "port '-1'");
}
END_TEST

/* A name is known once, as with getfd. */
static int resolve(const char *name, void *arg)
{
    int *fd = arg;
    return strcmp(name, "known") == 0 ? take_fd(fd) : -1;
}

START_TEST(passed_descriptors)
{
    int fds[SOCKETS_MAX];
    char text[32];
    unsigned count = SOCKETS_MAX;
    autoerr err = { 0 };
    struct socket_address a;

    autoclose int own =
        socket(AF_INET, SOCK_STREAM, 0); /* the kernel gives it a port at listen() */
    snprintf(text, sizeof(text), "fd,str=%d", own);
    ck_assert_int_eq(listen_on(text, fds, &err), 1);
    ck_assert_int_ne(fds[0], own); /* a duplicate */
    close(fds[0]);

    int by_name = socket(AF_INET, SOCK_STREAM, 0), expected = by_name;
    parse("fd,str=known", &a);
    ck_assert_int_eq(address_listen(&a, resolve, &by_name, fds, &count, &err), 0);
    ck_assert_int_eq(fds[0], expected); /* that very one */
    ck_assert_int_eq(address_listen(&a, resolve, &by_name, fds, &count, &err), -ENOENT);
    row_release(&row_socket_address, &a);
    close(fds[0]);

    refuse_listen("fd,str=unknown", -ENOENT, "'unknown' has not been found");
    refuse_listen("fd,str=1x", -EINVAL, "Unable to parse FD number 1x");
    refuse_listen("fd,str=9999", -EBADF, "'9999' can't be used");
    autoclose int null = open("/dev/null", O_RDWR);
    snprintf(text, sizeof(text), "fd,str=%d", null);
    refuse_listen(text, -ENOTSOCK, "is not a socket");
    refuse_connect(text, -ENOTSOCK, "is not a socket");

    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    snprintf(text, sizeof(text), "fd,str=%d", pair[0]);
    autoclose int through = connect_to(text, &err);
    ck_assert_int_ge(through, 0);
    close(pair[0]);
    ck_assert_int_eq(write(through, "y", 1), 1);
    ck_assert_int_eq(read(pair[1], text, 2), 1);
    close(pair[1]);
}
END_TEST

START_TEST(there_must_be_room)
{
    struct socket_address a;
    unsigned count = 0;
    int fd;
    autoerr err = { 0 };
    parse("inet,host=127.0.0.1,port=0", &a);
    ck_assert_int_eq(address_listen(&a, NULL, NULL, &fd, &count, &err), -EINVAL);
    row_release(&row_socket_address, &a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("address");
    TCase *t = tcase_create("address");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, up, down);
    tcase_add_test(t, text_forms);
    tcase_add_test(t, the_older_form);
    tcase_add_test(t, unix_sockets_are_private);
    tcase_add_test(t, other_files_stay);
    tcase_add_test(t, paths_of_any_length);
    tcase_add_test(t, abstract_names);
    tcase_add_test(t, tcp_by_number);
    tcase_add_test(t, port_ranges);
    tcase_add_test(t, families);
    tcase_add_test(t, names_that_lead_nowhere);
    tcase_add_test(t, multipath);
    tcase_add_test(t, vsock_numbers);
    tcase_add_test(t, passed_descriptors);
    tcase_add_test(t, there_must_be_room);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
