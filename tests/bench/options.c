/* SPDX-License-Identifier: MIT */
/*
 * The command line of nbdload: read, checked, and refused with status 2.
 */
#include "tests/bench/options.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const load_op_names[] = {
    [LOAD_RANDREAD] = "randread", [LOAD_RANDWRITE] = "randwrite", [LOAD_SEQREAD] = "seqread",
    [LOAD_SEQWRITE] = "seqwrite", [LOAD_MIXED] = "mixed",
};

static const char usage[] =
    "usage: nbdload (--unix PATH | --tcp HOST:PORT) [OPTION]...\n"
    "  --export NAME        default: the empty name\n"
    "  --op OP              randread, randwrite, seqread, seqwrite, mixed (default randread)\n"
    "  --read-percent N     of mixed, default 50\n"
    "  --connections N      default 1\n"
    "  --depth N            requests in flight on each connection, default 32\n"
    "  --block-size SIZE    default 4K; sizes take K, M, G\n"
    "  --region SIZE        work on the first SIZE bytes, default all\n"
    "  --time SECONDS       length of the measurement, default 5\n"
    "  --warmup SECONDS     run before the measurement starts, default 0.3\n"
    "  --count N            make N requests instead of running for a time\n"
    "  --threads            a thread for each connection; else one for all\n"
    "  --structured         negotiate structured replies; else simple ones\n"
    "  --verify             fill the region first, then check each block that is read\n"
    "  --receive-size SIZE  of one recv, default 256K\n"
    "  --socket-buffer SIZE default 4M\n"
    "  --seed N             of the offsets, default 1\n"
    "  --server-pid PID     report the server's CPU time for each request\n"
    "  --json               one object on stdout\n"
    "A write needs --verify or --destroy: both destroy what the export holds.\n";

static uint64_t parse_number(const char *option, const char *text)
{
    char *end;
    uint64_t n;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-')
        errx(2, "--%s: '%s' is not a number", option, text);
    return n;
}

static uint64_t parse_bytes(const char *option, const char *text)
{
    static const char suffixes[] = "KMG";
    size_t length = strlen(text);
    const char *suffix = length ? strchr(suffixes, text[length - 1]) : NULL;
    char digits[24];

    if (!suffix)
        return parse_number(option, text);
    if (length > sizeof digits)
        errx(2, "--%s: '%s' is too long", option, text);
    memcpy(digits, text, length - 1);
    digits[length - 1] = '\0';
    return parse_number(option, digits) << (10 * (suffix - suffixes + 1));
}

static double parse_seconds(const char *option, const char *text)
{
    char *end;
    double n = strtod(text, &end);

    if (end == text || *end || !(n >= 0 && n < 1e6))
        errx(2, "--%s: '%s' is not a time in seconds", option, text);
    return n;
}

static enum load_op parse_op(const char *text)
{
    for (unsigned i = 0; i < sizeof load_op_names / sizeof load_op_names[0]; i++)
        if (strcmp(text, load_op_names[i]) == 0)
            return (enum load_op)i;
    errx(2, "--op: there is no '%s'", text);
}

static const struct option long_options[] = {
    { "unix", 1, NULL, 'u' },
    { "tcp", 1, NULL, 't' },
    { "export", 1, NULL, 'x' },
    { "op", 1, NULL, 'o' },
    { "read-percent", 1, NULL, 'p' },
    { "connections", 1, NULL, 'c' },
    { "depth", 1, NULL, 'd' },
    { "block-size", 1, NULL, 'b' },
    { "region", 1, NULL, 'r' },
    { "time", 1, NULL, 's' },
    { "warmup", 1, NULL, 'w' },
    { "count", 1, NULL, 'n' },
    { "threads", 0, NULL, 'T' },
    { "structured", 0, NULL, 'S' },
    { "verify", 0, NULL, 'v' },
    { "receive-size", 1, NULL, 'R' },
    { "socket-buffer", 1, NULL, 'B' },
    { "seed", 1, NULL, 'e' },
    { "server-pid", 1, NULL, 'P' },
    { "json", 0, NULL, 'j' },
    { "destroy", 0, NULL, 'D' },
    { "help", 0, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

static void parse_option(struct options *o, int c, const char *name, bool *destroy)
{
    switch (c) {
    case 'u': o->unix_path = optarg; break;
    case 't': o->tcp = optarg; break;
    case 'x': o->export = optarg; break;
    case 'o': o->op = parse_op(optarg); break;
    case 'p': o->read_percent = (unsigned)parse_number(name, optarg); break;
    case 'c': o->connections = (unsigned)parse_number(name, optarg); break;
    case 'd': o->depth = (unsigned)parse_number(name, optarg); break;
    case 'b': o->block_size = parse_bytes(name, optarg); break;
    case 'r': o->region = parse_bytes(name, optarg); break;
    case 's': o->seconds = parse_seconds(name, optarg); break;
    case 'w': o->warmup = parse_seconds(name, optarg); break;
    case 'n': o->count = parse_number(name, optarg); break;
    case 'T': o->threads = true; break;
    case 'S': o->structured = true; break;
    case 'v': o->verify = true; break;
    case 'R': o->receive_size = parse_bytes(name, optarg); break;
    case 'B': o->socket_buffer = parse_bytes(name, optarg); break;
    case 'e': o->seed = parse_number(name, optarg); break;
    case 'P': o->server = (pid_t)parse_number(name, optarg); break;
    case 'j': o->json = true; break;
    case 'D': *destroy = true; break;
    case 'h': fputs(usage, stdout); exit(0);
    default: fputs(usage, stderr); exit(2);
    }
}

struct options options_parse(int argc, char **argv)
{
    struct options o = {
        .export = "",
        .op = LOAD_RANDREAD,
        .connections = 1,
        .depth = 32,
        .read_percent = 50,
        .block_size = 4096,
        .receive_size = 256 << 10,
        .socket_buffer = 4 << 20,
        .seed = 1,
        .seconds = 5,
        .warmup = 0.3,
    };
    bool destroy = false;
    int c, index;

    while ((c = getopt_long(argc, argv, "", long_options, &index)) != -1)
        parse_option(&o, c, c == '?' ? "" : long_options[index].name, &destroy);
    if (optind != argc || !o.unix_path == !o.tcp)
        errx(2, "give one of --unix and --tcp, and no other argument (--help)");
    if (!o.connections || o.connections > 1024 || !o.depth || o.depth > CONN_DEPTH_MAX)
        errx(2, "--connections must be 1 to 1024, --depth 1 to %d", CONN_DEPTH_MAX);
    if (!o.block_size || o.block_size > 32 << 20 || (o.verify && o.block_size % 8))
        errx(2, "--block-size must be 1 to 32M, and a multiple of 8 with --verify");
    if (o.receive_size < 4096 || o.receive_size > 64 << 20 || o.receive_size % 4096)
        errx(2, "--receive-size must be a multiple of 4K up to 64M");
    if (o.read_percent > 100)
        errx(2, "--read-percent must be 0 to 100");
    if (o.op != LOAD_RANDREAD && o.op != LOAD_SEQREAD && !o.verify && !destroy)
        errx(2, "writing destroys what the export holds: say --destroy");
    return o;
}
