/* SPDX-License-Identifier: MIT */
/*
 * Generic netlink by hand: one message out, one answer back.  A message is a
 * netlink header, a generic one, and attributes: length, type, bytes, padded
 * to four.
 */
#include "exports/nbd-netlink.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { MESSAGE_BYTES = 4096, ANSWER_SECONDS = 60 };

struct message {
    _Alignas(8) uint8_t bytes[MESSAGE_BYTES];
    size_t length;
};

static void put_bytes(struct message *m, const void *p, size_t len)
{
    if (m->length + NLA_ALIGN(len) > MESSAGE_BYTES)
        return;
    if (len)
        memcpy(m->bytes + m->length, p, len);
    m->length += NLA_ALIGN(len);
}

static void put_attribute(struct message *m, uint16_t type, const void *p, size_t len)
{
    const struct nlattr a = { .nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = type };

    put_bytes(m, &a, sizeof(a));
    put_bytes(m, p, len);
}

static void put_u32(struct message *m, uint16_t type, uint32_t value)
{
    put_attribute(m, type, &value, sizeof(value));
}

static void put_u64(struct message *m, uint16_t type, uint64_t value)
{
    put_attribute(m, type, &value, sizeof(value));
}

/* An attribute that holds others: those that are put until the end. */
static size_t nest_begin(struct message *m, uint16_t type)
{
    size_t at = m->length;

    put_attribute(m, (uint16_t)(type | NLA_F_NESTED), NULL, 0);
    return at;
}

static void nest_end(struct message *m, size_t at)
{
    ((struct nlattr *)(void *)(m->bytes + at))->nla_len = (uint16_t)(m->length - at);
}

static void message_begin(struct message *m, uint16_t family, uint8_t command, uint8_t version)
{
    const struct nlmsghdr n = { .nlmsg_type = family, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK };
    const struct genlmsghdr g = { .cmd = command, .version = version };

    memset(m, 0, sizeof(*m));
    put_bytes(m, &n, sizeof(n));
    put_bytes(m, &g, sizeof(g));
}

/* The attribute of that type in an answer, or NULL. */
static const void *find_attribute(const struct nlmsghdr *n, uint16_t type, size_t size)
{
    const uint8_t *p = (const uint8_t *)n + NLMSG_LENGTH(GENL_HDRLEN);
    const uint8_t *end = (const uint8_t *)n + n->nlmsg_len;

    while (end - p >= NLA_HDRLEN) {
        const struct nlattr *a = (const void *)p;
        if (a->nla_len < NLA_HDRLEN || a->nla_len > end - p)
            return NULL;
        if ((a->nla_type & NLA_TYPE_MASK) == type && a->nla_len >= NLA_HDRLEN + size)
            return p + NLA_HDRLEN;
        p += NLA_ALIGN(a->nla_len);
    }
    return NULL;
}

/* Send @m and take what comes until it is acknowledged.
 * @type, @value, @size: an attribute to look for on the way; @size 0: none. */
static int talk(struct message *m, uint16_t type, void *value, size_t size)
{
    autoclose int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    const struct timeval patience = { .tv_sec = ANSWER_SECONDS };
    _Alignas(8) uint8_t answer[2 * MESSAGE_BYTES];

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
        return -errno;
    ((struct nlmsghdr *)(void *)m->bytes)->nlmsg_len = (uint32_t)m->length;
    if (send(fd, m->bytes, m->length, 0) < 0)
        return -errno;
    for (;;) {
        ssize_t got = recv(fd, answer, sizeof(answer), 0);
        if (got < 0)
            return -errno;
        unsigned left = (unsigned)got;
        for (const struct nlmsghdr *n = (const void *)answer; NLMSG_OK(n, left);
             n = NLMSG_NEXT(n, left)) {
            if (n->nlmsg_type == NLMSG_ERROR)
                return ((const struct nlmsgerr *)NLMSG_DATA(n))->error;
            const void *found = size ? find_attribute(n, type, size) : NULL;
            if (found)
                memcpy(value, found, size);
        }
    }
}

/* The number of the family "nbd", or a negative errno: -ENOENT without the module. */
static int find_family(void)
{
    struct message m;
    uint16_t family = 0;
    int r;

    message_begin(&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
    put_attribute(&m, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME, sizeof(NBD_GENL_FAMILY_NAME));
    r = talk(&m, CTRL_ATTR_FAMILY_ID, &family, sizeof(family));
    return r < 0 ? r : family ? family : -ENOENT;
}

int nbd_netlink_connect(struct nbd_netlink_disk *disk, struct err *err)
{
    int family = find_family(), r;
    struct message m;
    size_t sockets;

    if (family == -ENOENT)
        return err_set(err, family,
                       "the kernel's NBD client is not there: its module is not loaded (modprobe "
                       "nbd)");
    if (family < 0)
        return err_set_errno(err, family, "cannot talk to the kernel's NBD client");
    message_begin(&m, (uint16_t)family, NBD_CMD_CONNECT, NBD_GENL_VERSION);
    if (disk->index != NBD_NETLINK_ANY)
        put_u32(&m, NBD_ATTR_INDEX, disk->index);
    put_u64(&m, NBD_ATTR_SIZE_BYTES, disk->bytes);
    put_u64(&m, NBD_ATTR_BLOCK_SIZE_BYTES, disk->block);
    if (disk->timeout)
        put_u64(&m, NBD_ATTR_TIMEOUT, disk->timeout);
    put_u64(&m, NBD_ATTR_SERVER_FLAGS, disk->flags);
    sockets = nest_begin(&m, NBD_ATTR_SOCKETS);
    for (unsigned i = 0; i < disk->socket_count; i++) {
        size_t item = nest_begin(&m, NBD_SOCK_ITEM);
        put_u32(&m, NBD_SOCK_FD, (uint32_t)disk->sockets[i]);
        nest_end(&m, item);
    }
    nest_end(&m, sockets);
    r = talk(&m, NBD_ATTR_INDEX, &disk->index, sizeof(disk->index));
    if (r == -EBUSY && disk->index != NBD_NETLINK_ANY)
        return err_set(err, r, "/dev/nbd%u is in use", disk->index);
    if (r < 0)
        return err_set_errno(err, r, "the kernel's NBD client makes no disk of this");
    return 0;
}

int nbd_netlink_disconnect(uint32_t index)
{
    int family = find_family();
    struct message m;

    if (family < 0)
        return family;
    message_begin(&m, (uint16_t)family, NBD_CMD_DISCONNECT, NBD_GENL_VERSION);
    put_u32(&m, NBD_ATTR_INDEX, index);
    return talk(&m, 0, NULL, 0);
}

int nbd_netlink_resize(uint32_t index, uint64_t bytes)
{
    int family = find_family();
    struct message m;

    if (family < 0)
        return family;
    message_begin(&m, (uint16_t)family, NBD_CMD_RECONFIGURE, NBD_GENL_VERSION);
    put_u32(&m, NBD_ATTR_INDEX, index);
    put_u64(&m, NBD_ATTR_SIZE_BYTES, bytes);
    return talk(&m, 0, NULL, 0);
}
