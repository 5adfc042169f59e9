/* SPDX-License-Identifier: MIT */
/* The intrusive list, and the cleanup attributes that own what hangs on it. */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/list.h"

struct item {
    int n;
    struct list link;
};

static int freed;

static void item_free(struct item *i)
{
    freed++;
    free(i);
}
DEFINE_AUTO(struct item *, item_free)

/* The list's numbers as decimal digits. */
static int digits(struct list *head)
{
    struct item *i;
    int d = 0;

    list_for_each (i, head, link)
        d = 10 * d + i->n;
    return d;
}

START_TEST(order_of_pushes)
{
    struct item a = { .n = 1 }, b = { .n = 2 }, c = { .n = 3 }, d = { .n = 4 };
    struct list head = LIST_INIT(head);

    ck_assert(list_empty(&head));
    ck_assert_ptr_null(list_pop_front(&head));
    list_push_back(&head, &b.link);
    list_push_back(&head, &c.link);
    list_push_front(&head, &a.link);
    list_insert_before(&c.link, &d.link);
    ck_assert_int_eq(digits(&head), 1243);
    ck_assert_ptr_eq(list_pop_front(&head), &a.link);
    ck_assert(list_empty(&a.link));
    ck_assert_int_eq(digits(&head), 243);
}
END_TEST

START_TEST(removing_twice_is_fine)
{
    struct item a = { .n = 1 }, b = { .n = 2 };
    struct list head;

    list_init(&head);
    list_push_back(&head, &a.link);
    list_push_back(&head, &b.link);
    list_remove(&a.link);
    list_remove(&a.link);
    ck_assert_int_eq(digits(&head), 2);
    list_remove(&b.link);
    ck_assert(list_empty(&head));
}
END_TEST

START_TEST(safe_walk_may_free)
{
    struct list head = LIST_INIT(head);
    struct item *i, *tmp;

    for (int n = 0; n < 5; n++) {
        i = calloc(1, sizeof *i);
        i->n = n;
        list_push_back(&head, &i->link);
    }
    list_for_each_safe (i, tmp, &head, link) {
        if (i->n % 2) {
            list_remove(&i->link);
            free(i);
        }
    }
    ck_assert_int_eq(digits(&head), 24);
    list_for_each_safe (i, tmp, &head, link)
        free(i);
}
END_TEST

START_TEST(scope_frees_what_was_not_handed_over)
{
    struct item *kept;
    int fd_kept, fd_lost;

    freed = 0;
    {
        AUTO(item_free_p) struct item *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
        autoclose int f = open("/dev/null", O_RDONLY), g = open("/dev/null", O_RDONLY);
        autofree char *text = strdup("x");
        autoclose int none = -1;

        ck_assert(text && b && none < 0);
        fd_lost = g;
        fd_kept = take_fd(&f);
        kept = take_ptr(&a);
        ck_assert_ptr_null(a);
        ck_assert_int_eq(f, -1);
    }
    ck_assert_int_eq(freed, 1);
    ck_assert_int_ge(fcntl(fd_kept, F_GETFD), 0);
    ck_assert_int_lt(fcntl(fd_lost, F_GETFD), 0);
    close(fd_kept);
    free(kept);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("list");
    TCase *t = tcase_create("list");

    suite_add_tcase(s, t);
    tcase_add_test(t, order_of_pushes);
    tcase_add_test(t, removing_twice_is_fine);
    tcase_add_test(t, safe_walk_may_free);
    tcase_add_test(t, scope_frees_what_was_not_handed_over);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
