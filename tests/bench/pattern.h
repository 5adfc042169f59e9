/* SPDX-License-Identifier: MIT */
/*
 * What --verify knows about the disk: one generation per block.  The content
 * of a block follows from its offset and its generation, so a lost, torn,
 * misplaced or stale write shows at the next read.  A block belongs to one
 * request at a time (claim, release); generation 0 means that the content is
 * unknown, and it is not compared.
 */
#ifndef TESTS_BENCH_PATTERN_H
#define TESTS_BENCH_PATTERN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pattern {
    _Atomic uint32_t *blocks; /* generation, and the highest bit while claimed */
    uint64_t block_count;
    uint32_t block_size; /* bytes, a multiple of 8 */
};

/* Ends the program when memory is short. */
void pattern_init(struct pattern *p, uint64_t block_count, uint32_t block_size);
void pattern_free(struct pattern *p);

/** pattern_claim - take @block for one request; false when another one has it
 * @generation: what the block holds now
 */
bool pattern_claim(struct pattern *p, uint64_t block, uint32_t *generation);
void pattern_release(struct pattern *p, uint64_t block, uint32_t generation);
uint32_t pattern_next(uint32_t generation);

/* Both work on one block of block_size bytes at @data. */
void pattern_fill(const struct pattern *p, uint64_t block, uint32_t generation, uint8_t *data);
/** pattern_check - false, and one line on stderr, when @data is not what was written */
bool pattern_check(const struct pattern *p, uint64_t block, uint32_t generation,
                   const uint8_t *data);

#endif
