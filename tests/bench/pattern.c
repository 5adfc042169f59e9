/* SPDX-License-Identifier: MIT */
/*
 * Generations and contents of blocks; see pattern.h.  Word i of a block is an
 * arithmetic series that starts at a hash of offset and generation: cheap to
 * make, and different in every word of every block.
 */
#include "tests/bench/pattern.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLAIMED (1u << 31)
#define STEP    0x9e3779b97f4a7c15ull

void pattern_init(struct pattern *p, uint64_t block_count, uint32_t block_size)
{
    *p = (struct pattern){ .block_count = block_count, .block_size = block_size };
    p->blocks = calloc(block_count, sizeof *p->blocks);
    if (!p->blocks)
        errx(1, "no memory for the generations of %" PRIu64 " blocks", block_count);
}

void pattern_free(struct pattern *p)
{
    free(p->blocks);
    p->blocks = NULL;
}

bool pattern_claim(struct pattern *p, uint64_t block, uint32_t *generation)
{
    uint32_t old = atomic_load_explicit(&p->blocks[block], memory_order_relaxed);

    *generation = old;
    return !(old & CLAIMED) &&
           atomic_compare_exchange_strong_explicit(&p->blocks[block], &old, old | CLAIMED,
                                                   memory_order_acquire, memory_order_relaxed);
}

void pattern_release(struct pattern *p, uint64_t block, uint32_t generation)
{
    atomic_store_explicit(&p->blocks[block], generation, memory_order_release);
}

uint32_t pattern_next(uint32_t generation)
{
    return generation + 1 == CLAIMED ? 1 : generation + 1;
}

/* The first word of a block. */
static uint64_t first_word(const struct pattern *p, uint64_t block, uint32_t generation)
{
    uint64_t x = block * p->block_size + ((uint64_t)generation << 40) + generation;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

void pattern_fill(const struct pattern *p, uint64_t block, uint32_t generation, uint8_t *data)
{
    uint64_t word = first_word(p, block, generation);

    for (size_t i = 0; i < p->block_size; i += 8, word += STEP)
        memcpy(data + i, &word, 8);
}

bool pattern_check(const struct pattern *p, uint64_t block, uint32_t generation,
                   const uint8_t *data)
{
    uint64_t word = first_word(p, block, generation);

    if (!generation)
        return true;
    for (size_t i = 0; i < p->block_size; i += 8, word += STEP) {
        uint64_t got;

        memcpy(&got, data + i, 8);
        if (got == word)
            continue;
        fprintf(stderr,
                "nbdload: verify: offset %" PRIu64 " (block %" PRIu64 ", generation %u): "
                "read %016" PRIx64 ", written %016" PRIx64 "\n",
                block * p->block_size + i, block, generation, got, word);
        return false;
    }
    return true;
}
