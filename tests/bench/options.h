/* SPDX-License-Identifier: MIT */
/*
 * What the command line of nbdload asks for.
 */
#ifndef TESTS_BENCH_OPTIONS_H
#define TESTS_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/load.h"

struct options {
    const char *unix_path, *tcp, *export;
    enum load_op op;
    unsigned connections, depth, read_percent;
    uint64_t block_size, region, count, receive_size, socket_buffer, seed;
    double seconds, warmup;
    bool threads, structured, verify, json;
    pid_t server;
};

extern const char *const load_op_names[]; /* by enum load_op */

/** options_parse - the options, all within their limits; ends the program otherwise */
struct options options_parse(int argc, char **argv);

#endif
