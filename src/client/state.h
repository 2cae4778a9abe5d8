/* state: one device's folder of state: who it is, which server, its token. `--state DIR` keeps devices apart.
 *
 * DIR/device.json (mode 0600) holds the identity and is replaced whole; DIR/roots/ holds one database a synced folder
 * (replica.h).
 */
#ifndef SD_CLIENT_STATE_H
#define SD_CLIENT_STATE_H

#include "base/ctx.h"

struct state {
	struct arena arena; /* of the strings */
	char *dir;
	struct str device_id;   /* a UUID, made on first use, never changed */
	struct str device_name; /* for people; the host's name unless configured */
	struct str server;      /* STR_NULL before login */
	struct str token;         /* bearer */
	struct str refresh_token; /* STR_NULL: none; the token cannot be renewed */
	int64_t renew_at_us;      /* when to renew the token, wall clock; 0: unknown */
	struct str email;
};

/* Opens or makes the folder. E_CORRUPT: device.json cannot be read (with what to do). */
int state_open(struct ctx *ctx, const char *dir, struct state *out);
/* Keeps other processes from changing device.json until *fd is closed. Whoever changes it holds this and, but for
 * a new login, has read it again. */
int state_lock(struct ctx *ctx, const struct state *s, int *fd);
/* Makes the identity durable. */
int state_save(struct ctx *ctx, struct state *s);
/* Reads everything again: another process may have signed in or renewed the token. */
int state_reload(struct ctx *ctx, struct state *s);
void state_close(struct state *s);
/* $XDG_STATE_HOME/scaidrive or ~/.local/state/scaidrive. */
struct str state_default_dir(struct arena *a);
/* DIR/roots/NAME.db for a share synced with a folder (an absolute path). */
struct str state_root_file(struct arena *a, const struct state *s, struct str share, struct str path);
/* A random UUID (RFC 9562, version 4) as text. */
struct str state_uuid(struct arena *a, struct rng *rng);

#endif
