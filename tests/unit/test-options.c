/* SPDX-License-Identifier: MIT */
/* block/options.c and block/driver.c: what is said, handed down and meant; which drivers there are. */
#include <check.h>
#include <stdlib.h>

#include "block/driver.h"
#include "block/options.h"
#include "drivers/table.h"

static struct node_options resolve(const char *text, const struct node_options *parent,
                                   enum edge_role role)
{
    struct blockdev_options said;
    struct node_options out;
    autoerr err = { 0 };
    ck_assert_msg(row_parse_text(&row_blockdev_options, text, NULL, &said, &err) == 0, "%s",
                  err.msg);
    ck_assert_int_eq(options_resolve(&said, parent, role, &out, &err), 0);
    row_release(&row_blockdev_options, &said);
    return out;
}

static void refused(const char *text, const struct node_options *parent, const char *message)
{
    struct blockdev_options said;
    struct node_options out;
    autoerr err = { 0 };
    if (row_parse_text(&row_blockdev_options, text, NULL, &said, &err) == 0) {
        ck_assert_int_lt(options_resolve(&said, parent, ROLE_FILE, &out, &err), 0);
        row_release(&row_blockdev_options, &said);
    }
    ck_assert_str_eq(err.msg, message);
}

START_TEST(defaults_are_qemus)
{
    struct node_options o = resolve("driver=null-co", NULL, ROLE_FILE);
    ck_assert_int_eq(o.discard, DISCARD_IGNORE);
    ck_assert_int_eq(o.detect_zeroes, DETECT_ZEROES_OFF);
    ck_assert(!o.direct && !o.no_flush && !o.read_only && !o.auto_read_only && !o.force_share);
}
END_TEST

START_TEST(what_is_said_counts)
{
    struct node_options o = resolve(
        "driver=null-co,discard=unmap,detect-zeroes=unmap,cache.direct=on,cache.no-flush=on,"
        "read-only=on,auto-read-only=on,force-share=on",
        NULL, ROLE_FILE);
    ck_assert_int_eq(o.discard, DISCARD_UNMAP);
    ck_assert_int_eq(o.detect_zeroes, DETECT_ZEROES_UNMAP);
    ck_assert(o.direct && o.no_flush && o.read_only && o.auto_read_only && o.force_share);
}
END_TEST

START_TEST(an_inline_child_inherits)
{
    const struct node_options parent = { .direct = true,
                                         .no_flush = true,
                                         .read_only = true,
                                         .auto_read_only = true,
                                         .force_share = true,
                                         .detect_zeroes = DETECT_ZEROES_ON };
    struct node_options o = resolve("driver=null-co", &parent, ROLE_FILE);
    ck_assert(o.direct && o.no_flush && o.read_only && o.auto_read_only && o.force_share);
    ck_assert_int_eq(o.detect_zeroes, DETECT_ZEROES_OFF);
    ck_assert_int_eq(o.discard, DISCARD_UNMAP); /* the format decides which discards to send */
    ck_assert_int_eq(resolve("driver=null-co", &parent, ROLE_DATA).discard, DISCARD_UNMAP);
    ck_assert_int_eq(resolve("driver=null-co", &parent, ROLE_FILTERED).discard, DISCARD_IGNORE);
    ck_assert_int_eq(resolve("driver=null-co", &parent, ROLE_BACKING).discard, DISCARD_IGNORE);
}
END_TEST

START_TEST(an_inline_child_may_say_otherwise)
{
    const struct node_options parent = { .direct = true, .no_flush = true, .read_only = true };
    struct node_options o =
        resolve("driver=null-co,cache.direct=off,read-only=off,discard=ignore", &parent, ROLE_FILE);
    ck_assert(!o.direct && o.no_flush && !o.read_only);
    ck_assert_int_eq(o.discard, DISCARD_IGNORE);
}
END_TEST

START_TEST(a_backing_child_is_read_only)
{
    const struct node_options parent = { .auto_read_only = true };
    struct node_options o = resolve("driver=null-co", &parent, ROLE_BACKING);
    ck_assert(o.read_only && !o.auto_read_only);
    ck_assert(!resolve("driver=null-co,read-only=off", &parent, ROLE_BACKING).read_only);
}
END_TEST

START_TEST(contradictions_are_refused)
{
    const struct node_options shared = { .force_share = true, .read_only = true };
    refused("driver=null-co,detect-zeroes=unmap", NULL,
            "setting detect-zeroes to unmap is not allowed without setting discard operation to "
            "unmap");
    refused("driver=null-co,force-share=on", NULL,
            "force-share=on can only be used with read-only images");
    refused("driver=null-co,force-share=on,auto-read-only=on", NULL,
            "force-share=on can only be used with read-only images");
    refused("driver=null-co,read-only=off", &shared,
            "force-share=on can only be used with read-only images");
}
END_TEST

START_TEST(rows_refuse_as_qemu_does)
{
    refused("node-name=a", NULL, "Parameter 'driver' is missing");
    refused("driver=vmdk,node-name=a", NULL, "Parameter 'driver' does not accept value 'vmdk'");
    refused("driver=null-co,cache.writeback=on", NULL, "Parameter 'cache.writeback' is unexpected");
    refused("driver=null-co,discard=on", NULL, "Parameter 'discard' does not accept value 'on'");
    refused("driver=null-co,detect-zeroes=x", NULL,
            "Parameter 'detect-zeroes' does not accept value 'x'");
    refused("{'driver':'null-co','cache':3}", NULL,
            "Invalid parameter type for 'cache', expected: object");
    refused("driver=raw", NULL, "Parameter 'file' is missing");
    refused("{'driver':'raw','file':3}", NULL,
            "Invalid parameter type for 'file', expected: BlockdevRef");
    refused("{'driver':'raw','file':null}", NULL,
            "Invalid parameter type for 'file', expected: BlockdevRef");
    refused("driver=raw,file=x,backing=y", NULL, "Parameter 'backing' is unexpected");
    refused("driver=raw,file.driver=null-co,file.nope=1", NULL,
            "Parameter 'file.nope' is unexpected");
}
END_TEST

START_TEST(drivers_are_found_by_name_and_number)
{
    const struct driver *null = driver_by_name("null-co");
    ck_assert_str_eq(null->name, "null-co");
    ck_assert_ptr_eq(driver_by_index(row_enum_value(&row_blockdev_driver, "null-co")), null);
    ck_assert_ptr_null(driver_by_name("vmdk"));
    ck_assert_ptr_null(driver_by_index(-1));
    int count = 0;
    while (driver_by_index(count))
        count++;
    drivers_register(drivers_all); /* again: no driver comes twice */
    ck_assert_ptr_null(driver_by_index(count));
    for (int i = 0; i < count; i++)
        ck_assert_str_eq(row_enum_name(&row_blockdev_driver, i), driver_by_index(i)->name);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("options");
    TCase *c = tcase_create("options");
    drivers_register(drivers_all);
    suite_add_tcase(s, c);
    tcase_add_test(c, defaults_are_qemus);
    tcase_add_test(c, what_is_said_counts);
    tcase_add_test(c, an_inline_child_inherits);
    tcase_add_test(c, an_inline_child_may_say_otherwise);
    tcase_add_test(c, a_backing_child_is_read_only);
    tcase_add_test(c, contradictions_are_refused);
    tcase_add_test(c, rows_refuse_as_qemu_does);
    tcase_add_test(c, drivers_are_found_by_name_and_number);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
