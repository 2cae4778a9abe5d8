/* settings: what a person may set for the client: defaults < --config FILE (INI) < SCAIDRIVE_* variables < options. */
#ifndef SD_CLIENT_SETTINGS_H
#define SD_CLIENT_SETTINGS_H

#include "base/ctx.h"

struct settings {
	struct str server;      /* SCAIDRIVE_SERVER: base URL; only login needs it */
	struct str ca_file;     /* SCAIDRIVE_CA_FILE: PEM file of certificate authorities; STR_NULL: the system's */
	struct str proxy;       /* SCAIDRIVE_PROXY: http://host:port; STR_NULL: by http_proxy and https_proxy */
	struct str device_name; /* SCAIDRIVE_DEVICE_NAME: how other people see this device; STR_NULL: the host's name */
	struct str state;       /* SCAIDRIVE_STATE: folder of this device's identity and memory */
	struct str trash_days, trash_mb; /* SCAIDRIVE_TRASH_DAYS, SCAIDRIVE_TRASH_MB, as they were written */
	int keep_days;          /* how long the client's trash keeps a file; 0: until it is emptied; 30 unless set */
	int64_t keep_bytes;     /* and how much, the youngest; negative: no bound */
};

/* Reads the file (NULL: none), then the variables. E_USAGE, with the line, when something is wrong. */
int settings_read(struct ctx *ctx, const char *file, struct settings *out);

#endif
