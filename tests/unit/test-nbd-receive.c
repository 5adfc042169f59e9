/* SPDX-License-Identifier: MIT */
/*
 * A connection of the NBD server that is cut off, on virtual rings: the kernel
 * may write into a buffer until its receive has ended, whoever else wants it.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "exports/nbd-connection.h"
#include "uring/virtual.h"

enum { PAYLOAD = 1 << 20 };

static struct nbd_connection connection;
static struct root *root; /* without a node: nothing is begun in it */
static uint8_t *others;   /* what somebody else on the ring was given as a buffer */

static struct {
    struct work work;
    void (*fn)(void);
} errand;

static void errand_arrives(struct work *w)
{
    (void)w;
    errand.fn();
}

/* Let ring 1 do something, and then whatever follows. */
static void on_ring(void (*fn)(void))
{
    errand.fn = fn;
    errand.work.fn = errand_arrives;
    ring_post(ring_started(1), &errand.work);
    while (virtual_step(1))
        ;
}

static void serve(void)
{
    nbd_serve(&connection.start_work);
}

/* In the same turn: the kernel has not seen the cancel yet. */
static void cut_off_and_take_a_buffer(void)
{
    nbd_kill_here(&connection);
    ck_assert(op_in_flight(&connection.receive));
    others = buffer_get(PAYLOAD);
}

static void give_it_back(void)
{
    buffer_put(others, PAYLOAD);
}

/* The header of a write whose payload does not come with it. */
static void header_comes(void)
{
    const struct nbd_compact_request header = {
        .magic = put_be32(NBD_REQUEST_MAGIC),
        .type = put_be16(NBD_CMD_WRITE),
        .length = put_be32(PAYLOAD),
    };
    memcpy(connection.in, &header, sizeof header);
    virtual_complete(1, sizeof header);
    while (virtual_step(1))
        ;
}

START_TEST(a_payload_keeps_its_buffer_until_its_receive_has_ended)
{
    virtual_rings_init(1);
    virtual_hold(true);
    autoerr err = { 0 };
    root = root_new("x", ROOT_EXPORT, NULL, &err);
    ck_assert_ptr_nonnull(root);
    connection = (struct nbd_connection){
        .fd = -1, .ring = ring_started(1), .root = root, .style = NBD_SIMPLE, .block_minimum = 1
    };
    on_ring(serve);
    header_comes();
    ck_assert_ptr_nonnull(connection.filling);
    const uint8_t *payload = connection.filling->data;
    ck_assert(op_in_flight(&connection.receive));

    on_ring(cut_off_and_take_a_buffer);
    ck_assert_ptr_nonnull(others);
    ck_assert_ptr_ne(others, payload);
    on_ring(give_it_back);

    ck_assert(connection.finished);
    ck_assert_uint_eq(connection.in_flight, 0);
    ck_assert_uint_eq(connection.memory.held, 0);
    root_free(root);
    virtual_hold(false);
    virtual_rings_exit();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nbd-receive");
    TCase *c = tcase_create("nbd-receive");
    tcase_add_test(c, a_payload_keeps_its_buffer_until_its_receive_has_ended);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
