/* SPDX-License-Identifier: MIT */
/*
 * Integers of a fixed byte order as types of their own, so that the compiler
 * refuses a missing swap.
 */
#ifndef BASE_BE_H
#define BASE_BE_H

#include <endian.h>
#include <stdint.h>

typedef struct {
    uint16_t raw;
} be16;
typedef struct {
    uint32_t raw;
} be32;
typedef struct {
    uint64_t raw;
} be64;
typedef struct {
    uint16_t raw;
} le16;
typedef struct {
    uint32_t raw;
} le32;
typedef struct {
    uint64_t raw;
} le64;

/* get_be32(v) -> host value; put_be32(x) -> typed value; likewise for the others. */
#define DEFINE_ENDIAN(type, bits, to_host, from_host)                                              \
    static inline uint##bits##_t get_##type(type v)                                                \
    {                                                                                              \
        return to_host(v.raw);                                                                     \
    }                                                                                              \
    static inline type put_##type(uint##bits##_t v)                                                \
    {                                                                                              \
        return (type){ from_host(v) };                                                             \
    }

DEFINE_ENDIAN(be16, 16, be16toh, htobe16)
DEFINE_ENDIAN(be32, 32, be32toh, htobe32)
DEFINE_ENDIAN(be64, 64, be64toh, htobe64)
DEFINE_ENDIAN(le16, 16, le16toh, htole16)
DEFINE_ENDIAN(le32, 32, le32toh, htole32)
DEFINE_ENDIAN(le64, 64, le64toh, htole64)

#undef DEFINE_ENDIAN

#endif
