/* SPDX-License-Identifier: MIT */
/* crypto/secret.c: what secrets hold, and what is refused. */
#include <errno.h>
#include <stdio.h>

#include "crypto/secret.h"
#include "tests/unit/object-fixture.h"

/* 32 and 16 digits as base64; "letmein" encrypted with them by openssl(1). */
#define KEY  "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
#define IV   "MDEyMzQ1Njc4OTAxMjM0NQ=="
#define TEXT "ki3u5aDjlQ8V2nonoZzeJg=="

static const struct object_type plain = { .name = "plain" };
static const struct object_type *const types[] = { &object_secret, &plain, NULL };

static void set_up(void)
{
    objects_register(types);
}

static void tear_down(void)
{
    objects_del_all();
}

static void holds(const char *id, const void *bytes, size_t len)
{
    struct err err = { 0 };
    uint8_t *got;
    size_t n;

    ck_assert_msg(secret_get(id, &got, &n, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(n, len);
    ck_assert_int_eq(memcmp(got, bytes, len), 0);
    secret_free(got, n);
}

START_TEST(raw_and_base64)
{
    must_add("secret,id=raw,data=abc");
    holds("raw", "abc", 3);
    must_add("secret,id=empty,data=");
    holds("empty", "", 0);
    must_add("secret,id=b0,data=YWJj,format=base64");
    holds("b0", "abc", 3);
    must_add("secret,id=b1,data=YWI=,format=base64");
    holds("b1", "ab", 2);
    must_add("{'qom-type':'secret','id':'b2','data':'AP8\\n=\\r\\n','format':'base64'}");
    holds("b2", "\0\xff", 2);
    must_add("secret,id=b3,data=,format=base64");
    holds("b3", "", 0);
    for (const char *const *bad =
             (const char *const[]){ "!!!!", "YWJ", "YW=J", "Y===", "-WJj", NULL };
         *bad; bad++) {
        char text[64];

        snprintf(text, sizeof(text), "secret,id=x,data=%s,format=base64", *bad);
        must_not_add(text, "secret 'x': the data is not valid base64");
    }
}
END_TEST

START_TEST(data_or_file)
{
    char path[] = "/tmp/test-secret.XXXXXX", text[128];
    int fd = mkstemp(path);

    ck_assert_int_eq(write(fd, "a\0b\n", 4), 4);
    snprintf(text, sizeof(text), "secret,id=f,file=%s", path);
    must_add(text);
    holds("f", "a\0b\n", 4);
    ck_assert_int_eq(ftruncate(fd, SECRET_BYTES_MAX + 1), 0);
    snprintf(text, sizeof(text), "secret,id=g,file=%s", path);
    autoerr err = { 0 };
    ck_assert_int_eq(add_text(text, &err), -EFBIG);
    close(fd);
    remove(path);
    must_not_add("secret,id=x", "Either 'file' or 'data' must be provided");
    must_not_add("secret,id=x,data=a,file=b", "'file' and 'data' are mutually exclusive");
    must_not_add("secret,id=x,file=/dev/zero",
                 "secret 'x': cannot read '/dev/zero': it is no regular file");
    must_not_add("secret,id=x,file=/nonexistent/f",
                 "secret 'x': cannot read '/nonexistent/f': No such file or directory");
}
END_TEST

START_TEST(encrypted_with_another)
{
    must_add("secret,id=k,format=base64,data=" KEY);
    must_add("secret,id=s,format=base64,keyid=k,iv=" IV ",data=" TEXT);
    holds("s", "letmein", 7);
    must_add("secret,id=short,data=abc");
    must_add("plain,id=p");
    must_not_add("secret,id=x,keyid=none,iv=" IV ",data=a",
                 "secret 'x': its key: object 'none' not found");
    must_not_add("secret,id=x,keyid=x,iv=" IV ",data=a",
                 "secret 'x': its key: object 'x' not found");
    must_not_add("secret,id=x,keyid=p,iv=" IV ",data=a",
                 "secret 'x': its key: object 'p' is of type 'plain', not 'secret'");
    must_not_add("secret,id=x,keyid=short,iv=" IV ",data=a",
                 "secret 'x': the key 'short' must be 32 bytes long, not 3");
    must_not_add("secret,id=x,keyid=k,data=a", "secret 'x': 'keyid' needs 'iv' as well");
    must_not_add("secret,id=x,keyid=k,iv=!,data=a", "secret 'x': the iv is not valid base64");
    must_not_add("secret,id=x,keyid=k,iv=AAAA,data=a",
                 "secret 'x': the iv must be 16 bytes long, not 3");
    must_not_add("secret,id=x,keyid=k,iv=" IV ",data=abc",
                 "secret 'x': the encrypted data must be whole blocks of 16 bytes, not 3 bytes");
    must_not_add("secret,id=x,keyid=k,iv=" IV ",data=",
                 "secret 'x': the encrypted data must be whole blocks of 16 bytes, not 0 bytes");
    must_not_add("secret,id=x,keyid=k,iv=" IV ",data=0123456789012345",
                 "secret 'x': the data can't be decrypted with the key 'k' and this iv");
    /* It stays readable when its key is gone. */
    autoerr err = { 0 };
    ck_assert_int_eq(object_del("k", &err), 0);
    holds("s", "letmein", 7);
}
END_TEST

START_TEST(nothing_keeps_the_text)
{
    autoerr err = { 0 };
    char *props;
    struct object *o;

    must_add("secret,id=s,data=hunter2");
    o = object_find("s", &object_secret, &err);
    props = row_text(object_secret.props, o->props);
    ck_assert_ptr_null(strstr(props, "hunter2"));
    free(props);
    must_not_add("secret,id=x,format=base64,data=hunter2!",
                 "secret 'x': the data is not valid base64");
}
END_TEST

static void is_text(const char *base64, bool yes)
{
    autoerr err = { 0 };
    char option[128], *text;

    snprintf(option, sizeof(option), "secret,id=t,format=base64,data=%s", base64);
    must_add(option);
    if (secret_get_text("t", &text, &err) == 0) {
        ck_assert_msg(yes, "%s is no text", base64);
        secret_free(text, strlen(text));
    } else {
        ck_assert_msg(!yes, "%s", err.msg);
        ck_assert_str_eq(err.msg, "secret 't' is not text in UTF-8");
    }
    ck_assert_int_eq(object_del("t", &err), 0);
}

START_TEST(text_is_utf8_without_nul)
{
    is_text("", true);
    is_text("w6Q=", true);      /* U+E4 */
    is_text("8J+YgA==", true);  /* U+1F600 */
    is_text("YQBi", false);     /* a NUL */
    is_text("/w==", false);     /* no UTF-8 byte */
    is_text("wIA=", false);     /* overlong NUL */
    is_text("4ICA", false);     /* overlong */
    is_text("7aCA", false);     /* a surrogate */
    is_text("9JCAgA==", false); /* past U+10FFFF */
    is_text("YeI=", false);     /* cut off */
    is_text("4oI=", false);     /* cut off */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("secret");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, raw_and_base64);
    tcase_add_test(t, data_or_file);
    tcase_add_test(t, encrypted_with_another);
    tcase_add_test(t, nothing_keeps_the_text);
    tcase_add_test(t, text_is_utf8_without_nul);
    suite_add_tcase(s, t);
    return run_suite(s);
}
