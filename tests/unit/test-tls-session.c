/* SPDX-License-Identifier: MIT */
/* crypto/tls-creds.c and tls-session.c: both ends in one program, bytes carried by hand, also badly. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "crypto/tls-creds.h"
#include "crypto/tls-session.h"
#include "tests/unit/object-fixture.h"

static const struct object_type *const types[] = { &object_secret, &object_tls_creds_anon,
                                                   &object_tls_creds_psk, &object_tls_creds_x509,
                                                   NULL };
static char folder[] = "/tmp/test-tls.XXXXXX";

static void put_keys(const char *text)
{
    char path[64];
    FILE *f;

    snprintf(path, sizeof(path), "%s/keys.psk", folder);
    f = fopen(path, "we");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void set_up(void)
{
    objects_register(types);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    put_keys("bob:0102\nalice:00112233445566778899aabbccddeeff\r\nodd:123\n");
}

static void tear_down(void)
{
    char path[64];

    objects_del_all();
    snprintf(path, sizeof(path), "%s/keys.psk", folder);
    unlink(path);
    rmdir(folder);
}

static void add(const char *fmt, ...)
{
    char text[256];
    va_list list;

    va_start(list, fmt);
    vsnprintf(text, sizeof(text), fmt, list);
    va_end(list);
    must_add(text);
}

static struct tls_session *session(const char *id)
{
    struct err err = { 0 };
    struct tls_session *s = tls_session_new(object_find(id, NULL, &err), &err);

    ck_assert_msg(s != NULL, "%s", err.msg);
    return s;
}

/* Carry what one end has to say, @step bytes at a time; returns how many there were. */
static size_t carry(struct tls_session *from, struct tls_session *to, size_t step)
{
    uint8_t bytes[4096];
    size_t n, all = 0;

    for (; (n = tls_session_take(from, bytes, step)) > 0; all += n)
        ck_assert_int_eq(tls_session_feed(to, bytes, n), 0);
    return all;
}

/* 0 when both ends agree; else what the server, or the client, says. */
static int shake(struct tls_session *server, struct tls_session *client, size_t step)
{
    int s = -EAGAIN, c = -EAGAIN;

    for (unsigned i = 0; i < 20 && (s == -EAGAIN || c == -EAGAIN); i++) {
        autoerr err = { 0 };
        if (c == -EAGAIN)
            c = tls_session_handshake(client, &err);
        err_clear(&err);
        carry(client, server, step);
        if (s == -EAGAIN) {
            s = tls_session_handshake(server, &err);
            ck_assert_int_eq(err.code, s == -EAGAIN ? 0 : s);
        }
        carry(server, client, step);
    }
    return s < 0 ? s : c;
}

static void add_psk(void)
{
    add("tls-creds-psk,id=s,dir=%s,endpoint=server", folder);
    add("tls-creds-psk,id=c,dir=%s,username=alice", folder);
}

START_TEST(what_one_end_says_the_other_reads)
{
    static const size_t sizes[] = { 1, 16384, 16385, 100000 };
    struct tls_session *s, *c;
    uint8_t *said = malloc(100000), *heard = malloc(100000);

    add_psk();
    s = session("s");
    c = session("c");
    ck_assert_int_eq(shake(s, c, 4096), 0);
    ck_assert_int_eq(tls_session_read(s, heard, 10), -EAGAIN);
    ck_assert(!tls_session_may_read(s));
    for (unsigned i = 0; i < 4; i++) {
        size_t done = 0;
        memset(said, (int)i + 1, sizes[i]);
        ck_assert_int_eq(tls_session_write(c, said, sizes[i]), 0);
        ck_assert_uint_gt(carry(c, s, 4096), sizes[i]);
        ck_assert(tls_session_may_read(s));
        while (done < sizes[i]) {
            ssize_t n = tls_session_read(s, heard + done, sizes[i] - done);
            ck_assert_int_gt(n, 0);
            done += (size_t)n;
        }
        ck_assert_mem_eq(said, heard, sizes[i]);
        ck_assert(!tls_session_may_read(s));
    }
    ck_assert_ptr_null(tls_session_peer(s));
    tls_session_close(c);
    carry(c, s, 4096);
    ck_assert_int_eq(tls_session_read(s, heard, 10), 0);
    tls_session_free(s);
    tls_session_free(c);
    free(said);
    free(heard);
}
END_TEST

START_TEST(a_byte_at_a_time_is_enough)
{
    struct tls_session *s, *c;

    add_psk();
    s = session("s");
    c = session("c");
    ck_assert_int_eq(shake(s, c, 1), 0);
    tls_session_free(s);
    tls_session_free(c);
}
END_TEST

START_TEST(what_was_changed_on_the_way_is_not_read)
{
    struct tls_session *s, *c;
    uint8_t bytes[256];
    size_t n;

    add_psk();
    s = session("s");
    c = session("c");
    ck_assert_int_eq(shake(s, c, 4096), 0);
    ck_assert_int_eq(tls_session_write(c, "secret", 6), 0);
    n = tls_session_take(c, bytes, sizeof(bytes));
    bytes[n - 1] ^= 1;
    ck_assert_int_eq(tls_session_feed(s, bytes, n), 0);
    ck_assert_int_eq(tls_session_read(s, bytes, sizeof(bytes)), -EPROTO);
    tls_session_free(s);
    tls_session_free(c);
}
END_TEST

START_TEST(a_key_is_that_of_its_user)
{
    struct tls_session *s, *c;

    add_psk();
    put_keys("alice:00112233445566778899aabbccddeefe\n");
    add("tls-creds-psk,id=wrong,dir=%s,username=alice", folder);
    s = session("s");
    c = session("wrong");
    ck_assert_int_eq(shake(s, c, 4096), -EPROTO);
    tls_session_free(s);
    tls_session_free(c);
    put_keys("alice\nbob:0102:00\n");
    char text[128], message[256];
    static const char *const users[] = { "alice", "bob", "carol", "alice\nbob:0102" };
    for (unsigned i = 0; i < 4; i++) {
        snprintf(text, sizeof(text), "tls-creds-psk,id=x,dir=%s,username=%s", folder, users[i]);
        snprintf(message, sizeof(message), "TLS credentials 'x': '%s/keys.psk' has no key of '%s'",
                 folder, users[i]);
        must_not_add(text, message);
    }
}
END_TEST

START_TEST(nobody_needs_a_name)
{
    struct tls_session *s, *c;

    must_add("tls-creds-anon,id=s,endpoint=server");
    must_add("tls-creds-anon,id=c");
    s = session("s");
    c = session("c");
    ck_assert_int_eq(shake(s, c, 4096), 0);
    tls_session_free(s);
    tls_session_free(c);
}
END_TEST

START_TEST(kinds_do_not_mix)
{
    struct tls_session *s, *c;

    add_psk();
    must_add("tls-creds-anon,id=nobody");
    s = session("s");
    c = session("nobody");
    ck_assert_int_eq(shake(s, c, 4096), -EPROTO);
    tls_session_free(s);
    tls_session_free(c);
}
END_TEST

START_TEST(each_end_has_its_credentials)
{
    autoerr err = { 0 };

    add_psk();
    must_add("secret,id=k,data=a");
    ck_assert_ptr_nonnull(tls_creds_find("s", true, &err));
    ck_assert_ptr_nonnull(tls_creds_find("c", false, &err));
    ck_assert_ptr_null(tls_creds_find("c", true, &err));
    ck_assert_str_eq(err.msg, "Expecting TLS credentials with a server endpoint");
    ck_assert_ptr_null(tls_creds_find("k", true, &err));
    ck_assert_str_eq(err.msg, "Object with id 'k' is not TLS credentials");
    ck_assert_ptr_null(tls_creds_find("none", true, &err));
    ck_assert_str_eq(err.msg, "No TLS credentials with id 'none'");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tls-session");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, set_up, tear_down);
    suite_add_tcase(s, t);
    tcase_add_test(t, what_one_end_says_the_other_reads);
    tcase_add_test(t, a_byte_at_a_time_is_enough);
    tcase_add_test(t, what_was_changed_on_the_way_is_not_read);
    tcase_add_test(t, a_key_is_that_of_its_user);
    tcase_add_test(t, nobody_needs_a_name);
    tcase_add_test(t, kinds_do_not_mix);
    tcase_add_test(t, each_end_has_its_credentials);
    return run_suite(s);
}
