/* SPDX-License-Identifier: MIT */
/* Integers of a fixed byte order: what lies in memory, byte by byte. */
#include <check.h>
#include <string.h>

#include "base/be.h"

START_TEST(bytes_in_memory)
{
    struct {
        be16 a;
        le16 b;
        be32 c;
        le32 d;
        be64 e;
        le64 f;
    } __attribute__((packed)) all = { put_be16(0x0102),
                                      put_le16(0x0102),
                                      put_be32(0x01020304),
                                      put_le32(0x01020304),
                                      put_be64(0x0102030405060708),
                                      put_le64(0x0102030405060708) };

    ck_assert_int_eq(sizeof all, 28);
    ck_assert_mem_eq(&all,
                     "\1\2"
                     "\2\1"
                     "\1\2\3\4"
                     "\4\3\2\1"
                     "\1\2\3\4\5\6\7\10"
                     "\10\7\6\5\4\3\2\1",
                     28);
}
END_TEST

START_TEST(round_trip_of_extremes)
{
    static const uint64_t v[] = { 0, 1, 0x80, 0xff00, UINT32_MAX, (uint64_t)1 << 63, UINT64_MAX };

    for (unsigned i = 0; i < sizeof v / sizeof *v; i++) {
        ck_assert_uint_eq(get_be16(put_be16((uint16_t)v[i])), (uint16_t)v[i]);
        ck_assert_uint_eq(get_le16(put_le16((uint16_t)v[i])), (uint16_t)v[i]);
        ck_assert_uint_eq(get_be32(put_be32((uint32_t)v[i])), (uint32_t)v[i]);
        ck_assert_uint_eq(get_le32(put_le32((uint32_t)v[i])), (uint32_t)v[i]);
        ck_assert_uint_eq(get_be64(put_be64(v[i])), v[i]);
        ck_assert_uint_eq(get_le64(put_le64(v[i])), v[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("be");
    TCase *t = tcase_create("be");

    suite_add_tcase(s, t);
    tcase_add_test(t, bytes_in_memory);
    tcase_add_test(t, round_trip_of_extremes);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
