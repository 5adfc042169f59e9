/* SPDX-License-Identifier: MIT */
/* The lists of what there is to name in commands: with these, and the commands, all rows are complete. */
#include "block/corruption.h"
#include "block/driver.h"
#include "block/event.h"
#include "block/iothread.h"
#include "crypto/authz.h"
#include "crypto/object.h"
#include "crypto/secret.h"
#include "crypto/tls-creds.h"
#include "drivers/table.h"
#include "exports/export.h"
#include "exports/nbd-device.h"
#include "exports/nbd.h"
#include "exports/ublk.h"
#include "jobs/job.h"
#include "qmp/qmp.h"

static const struct export_driver *const export_kinds[] = { &export_nbd, &export_nbd_device,
                                                            &export_ublk, NULL };
static const struct object_type *const object_types[] = {
    &object_authz_list,    &object_authz_listfile, &object_authz_simple,
    &object_iothread,      &object_secret,         &object_tls_creds_anon,
    &object_tls_creds_psk, &object_tls_creds_x509, NULL,
};
static const struct event_type *const events[] = {
    &event_block_image_corrupted,
    &event_block_io_error,
    &event_block_write_threshold,
    &event_block_export_deleted,
    &event_job_status_change,
    &event_resume,
    &event_shutdown,
    &event_stop,
    NULL,
};

void qmp_register_types(void)
{
    drivers_register(drivers_all);
    exports_register(export_kinds);
    objects_register(object_types);
    event_register(events);
}
