/* SPDX-License-Identifier: MIT */
/* crypto/authz.c: who is let in, and that errors let nobody in. */
#include <errno.h>
#include <stdio.h>

#include "crypto/authz.h"
#include "crypto/secret.h"
#include "tests/unit/object-fixture.h"

static const struct object_type *const types[] = { &object_authz_list, &object_authz_listfile,
                                                   &object_authz_simple, &object_secret, NULL };
static char path[] = "/tmp/test-authz.XXXXXX";

static void set_up(void)
{
    objects_register(types);
}

static void tear_down(void)
{
    objects_del_all();
}

static void says(const char *id, const char *identity, bool yes)
{
    struct err err = { 0 };
    bool allowed = !yes;

    ck_assert_msg(authz_check(id, identity, &allowed, &err) == 0, "%s", err.msg);
    ck_assert_msg(allowed == yes, "%s about %s: %d", id, identity, allowed);
}

static void fails(const char *id, const char *message)
{
    autoerr err = { 0 };
    bool allowed = true;

    ck_assert_int_lt(authz_check(id, "me", &allowed, &err), 0);
    ck_assert(!allowed);
    ck_assert_msg(strstr(err.msg, message), "%s", err.msg);
}

START_TEST(one_identity)
{
    must_add("authz-simple,id=s,identity=CN=me");
    says("s", "CN=me", true);
    says("s", "CN=mee", false);
    says("s", "", false);
    must_not_add("authz-simple,id=x", "Parameter 'identity' is missing");
    fails("none", "object 'none' not found");
    must_add("secret,id=k,data=a");
    fails("k", "object 'k' is of type 'secret', which authorizes nobody");
    autoerr err = { 0 };
    ck_assert_ptr_null(authz_find("k", &err));
    ck_assert_ptr_nonnull(authz_find("s", &err));
}
END_TEST

START_TEST(the_first_rule_that_matches)
{
    must_add("{'qom-type':'authz-list','id':'l','policy':'deny','rules':["
             "{'match':'bad*','policy':'deny','format':'glob'},"
             "{'match':'b*','policy':'allow','format':'glob'},"
             "{'match':'*','policy':'allow'}]}");
    says("l", "bad", false);
    says("l", "badger", false);
    says("l", "best", true);
    says("l", "*", true);
    says("l", "other", false);
    must_add("authz-list,id=none");
    says("none", "me", false);
    must_add("authz-list,id=all,policy=allow,rules.0.match=me,rules.0.policy=deny");
    says("all", "me", false);
    says("all", "you", true);
    must_not_add("authz-list,id=x,rules.0.match=a", "Parameter 'rules.0.policy' is missing");
    must_not_add("authz-list,id=x,policy=maybe",
                 "Parameter 'policy' does not accept value 'maybe'");
}
END_TEST

static void put(const char *text)
{
    FILE *f = fopen(path, "w");

    fputs(text, f);
    fclose(f);
}

START_TEST(a_list_in_a_file)
{
    char text[128];

    put("\n {\"rules\": [{\"match\": \"me\", \"policy\": \"allow\"}]}\n");
    snprintf(text, sizeof(text), "authz-listfile,id=f,filename=%s", path);
    must_add(text);
    snprintf(text, sizeof(text), "authz-listfile,id=once,filename=%s,refresh=off", path);
    must_add(text);
    says("f", "me", true);
    says("f", "you", false);
    put("{\"policy\": \"allow\", \"rules\": [{\"match\": \"me\", \"policy\": \"deny\"}]}");
    says("f", "me", false);
    says("f", "you", true);
    says("once", "me", true);
    says("once", "you", false);
    put("{\"policy\": \"allow\"");
    fails("f", path);
    put("{\"policy\": \"allow\", \"rule\": []}");
    fails("f", "Parameter 'rule' is unexpected");
    remove(path);
    fails("f", "No such file");
    says("once", "me", true);
}
END_TEST

START_TEST(a_file_that_is_no_list)
{
    autoerr err = { 0 };
    char text[128];

    snprintf(text, sizeof(text), "authz-listfile,id=x,filename=%s", path);
    for (const char *const *bad =
             (const char *const[]){ "", "[]", "policy=allow", "{", "{}x", NULL };
         *bad; bad++) {
        put(*bad);
        ck_assert_msg(add_text(text, &err) < 0, "'%s' was taken", *bad);
        ck_assert_msg(strstr(err.msg, path), "%s", err.msg);
        err_clear(&err);
    }
    must_not_add("authz-listfile,id=x,filename=/dev/zero",
                 "authorization list 'x': cannot read '/dev/zero': it is no regular file");
    must_not_add("authz-listfile,id=x", "Parameter 'filename' is missing");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("authz");
    TCase *t = tcase_create("all");
    int fd = mkstemp(path), failed;

    close(fd);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, one_identity);
    tcase_add_test(t, the_first_rule_that_matches);
    tcase_add_test(t, a_list_in_a_file);
    tcase_add_test(t, a_file_that_is_no_list);
    suite_add_tcase(s, t);
    failed = run_suite(s);
    remove(path);
    return failed;
}
