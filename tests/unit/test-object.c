/* SPDX-License-Identifier: MIT */
/* crypto/object.c: ids, the steps of making one, uses, changes. */
#include <errno.h>

#include "tests/unit/object-fixture.h"

struct toy_props {
    int64_t n;
    char *text;
};

static unsigned destroyed;

static const struct row toy_rows[] = {
    ROW_OPT(struct toy_props, "n", n, row_int),
    ROW_OPT(struct toy_props, "text", text, row_str, .secret = true),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_toy, "ToyProperties", struct toy_props, toy_rows);

static int toy_change(struct object *o, const void *props, struct err *err)
{
    if (((const struct toy_props *)props)->n < 0)
        return err_set(err, -EINVAL, "toy '%s': no", o->id);
    return 0;
}

static void toy_destroy(struct object *o)
{
    (void)o;
    destroyed++;
}

static const struct object_type toy = {
    .name = "toy",
    .props = &row_toy,
    .create = toy_change,
    .change = toy_change,
    .destroy = toy_destroy,
};
static const struct object_type plain = { .name = "plain" };
static const struct object_type *const types[] = { &toy, &plain, NULL };

static void set_up(void)
{
    objects_register(types);
    destroyed = 0;
}

START_TEST(ids_are_checked_and_unique)
{
    must_add("toy,id=a.b-c_1,n=3");
    must_not_add("toy,id=a.b-c_1",
                 "attempt to add duplicate property 'a.b-c_1' to object (type 'container')");
    must_not_add("toy,id=1", "Parameter 'id' expects an identifier");
    must_not_add("toy,id=", "Parameter 'id' expects an identifier");
    must_not_add("toy,id=a/b", "Parameter 'id' expects an identifier");
    must_not_add("toy,id=b,n=-1", "toy 'b': no");
    must_not_add("toy", "Parameter 'id' is missing");
    must_not_add("none,id=b", "Parameter 'qom-type' does not accept value 'none'");
    must_not_add("plain,id=b,n=1", "Parameter 'n' is unexpected");
    objects_del_all();
    ck_assert_uint_eq(destroyed, 1);
}
END_TEST

START_TEST(what_is_being_made_has_its_id_and_is_not_found)
{
    autoerr err = { 0 };
    struct object_options o;
    struct object *first, *second;

    ck_assert_int_eq(row_parse_text(&row_object_options, "toy,id=t", "qom-type", &o, &err), 0);
    ck_assert_int_eq(object_begin(&o, &first, &err), 0);
    ck_assert_ptr_null(object_first());
    ck_assert_ptr_null(object_find("t", NULL, &err));
    ck_assert_int_eq(object_del("t", &err), -ENOENT);
    ck_assert_int_eq(object_begin(&o, &second, &err), -EEXIST);
    ck_assert_int_eq(object_end(first, -EIO), -EIO);
    ck_assert_uint_eq(destroyed, 0);
    ck_assert_int_eq(object_begin(&o, &second, &err), 0);
    ck_assert_int_eq(object_end(second, object_create(second, &err)), 0);
    ck_assert_ptr_eq(object_find("t", &toy, &err), second);
    row_release(&row_object_options, &o);
    objects_del_all();
}
END_TEST

START_TEST(used_ones_stay)
{
    autoerr err = { 0 };
    struct object *o;

    must_add("plain,id=p");
    o = object_find("p", &plain, &err);
    object_use(o);
    ck_assert_int_eq(object_del("p", &err), -EBUSY);
    ck_assert_str_eq(err.msg, "object 'p' is in use, can not be deleted");
    object_unuse(o);
    ck_assert_ptr_null(object_find("p", &toy, &err));
    ck_assert_str_eq(err.msg, "object 'p' is of type 'plain', not 'toy'");
    ck_assert_int_eq(object_del("p", &err), 0);
    ck_assert_int_eq(object_del("p", &err), -ENOENT);
    ck_assert_str_eq(err.msg, "object 'p' not found");
}
END_TEST

START_TEST(a_change_is_whole_or_none)
{
    autoerr err = { 0 };
    struct toy_props props = { .n = 7, .text = (char *)"seven" };
    struct object *o;

    must_add("toy,id=t,n=1,text=one");
    o = object_find("t", &toy, &err);
    ck_assert_int_eq(object_change(o, &props, &err), 0);
    ck_assert_int_eq(((struct toy_props *)o->props)->n, 7);
    ck_assert_str_eq(((struct toy_props *)o->props)->text, "seven");
    props.n = -1;
    ck_assert_int_eq(object_change(o, &props, &err), -EINVAL);
    ck_assert_int_eq(((struct toy_props *)o->props)->n, 7);
    objects_del_all();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("object");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, ids_are_checked_and_unique);
    tcase_add_test(t, what_is_being_made_has_its_id_and_is_not_found);
    tcase_add_test(t, used_ones_stay);
    tcase_add_test(t, a_change_is_whole_or_none);
    suite_add_tcase(s, t);
    return run_suite(s);
}
