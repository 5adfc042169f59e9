/* SPDX-License-Identifier: MIT */
/* block/filename.c: names that open the same bytes; compared with qemu-storage-daemon 7.2. */
#include "tests/unit/graph-fixture.h"

static void is_called(const char *name, const char *expected)
{
    char *found = node_filename(node_find(name));
    ck_assert_str_eq(found, expected);
    free(found);
}

CO_TEST(a_plain_name_says_it_all)
{
    add("driver=null-co,node-name=n");
    add("driver=null-aio,node-name=a,latency-ns=5"); /* how long it takes doesn't change what is read */
    add("driver=raw,node-name=r,file=n");
    add("driver=raw,node-name=q,file=r,read-only=on,discard=unmap");
    is_called("n", "null-co://");
    is_called("a", "null-aio://");
    is_called("r", "null-co://");
    is_called("q", "null-co://");
}

CO_TEST(options_that_matter_make_a_json_name)
{
    add("driver=null-co,node-name=n,size=1048576,read-zeroes=on");
    add("driver=raw,node-name=r,file=n");
    add("driver=raw,node-name=w,file=r,offset=512,size=0");
    is_called("n", "json:{\"driver\": \"null-co\", \"size\": 1048576, \"read-zeroes\": true}");
    is_called("r", "json:{\"driver\": \"raw\", \"file\": {\"driver\": \"null-co\", \"size\": "
                   "1048576, \"read-zeroes\": true}}");
    is_called("w", "json:{\"driver\": \"raw\", \"file\": {\"driver\": \"raw\", \"file\": "
                   "{\"driver\": \"null-co\", \"size\": 1048576, \"read-zeroes\": true}}, "
                   "\"offset\": 512, \"size\": 0}");
}

CO_TEST(long_chains_end_in_a_node_name)
{
    char text[80], *name;
    add("driver=null-co,node-name=n0,size=512");
    for (unsigned i = 1; i <= 40; i++) {
        snprintf(text, sizeof text, "driver=raw,node-name=n%u,file=n%u", i, i - 1);
        add(text);
    }
    name = node_filename(node_find("n40"));
    ck_assert_ptr_nonnull(strstr(name, "\"file\": \"n23\"}}}"));
    free(name);
}

int main(void)
{
    const TTest *const tests[] = { a_plain_name_says_it_all, options_that_matter_make_a_json_name,
                                   long_chains_end_in_a_node_name, NULL };
    return run_tests("filename", tests);
}
