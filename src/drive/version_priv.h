/* version_priv: reading rows of versions, for version.c and file.c. */
#ifndef SD_DRIVE_VERSION_PRIV_H
#define SD_DRIVE_VERSION_PRIV_H

#include "drive/version.h"

#define VERSION_COLUMNS \
	"id, node_id, number, size_bytes, sha256, mime_type, mtime, executable, created_by, created_at, device_id," \
	" staged_until, decompressed_bytes"

/* A row of VERSION_COLUMNS, without recipe. E_CORRUPT. */
int version_from_row(struct arena *a, struct rows *r, struct version *v);

#endif
