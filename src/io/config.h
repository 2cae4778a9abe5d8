/* config: every setting of the server, declared once, with its source.
 *
 * Later sources win: default < file (INI) < environment < command line. A key is "section.name" or a bare name; in a
 * file that is "[section]" and "name = value"; in the environment SCAIDRIVE_ and the key in capitals with dots as
 * underscores (compat.data_mirror is SCAIDRIVE_COMPAT_DATA_MIRROR). Each source is optional. Nothing here does I/O but
 * config_file. Not thread-safe while it is filled; read-only afterwards.
 */
#ifndef SD_IO_CONFIG_H
#define SD_IO_CONFIG_H

#include "base/buf.h"
#include "base/err.h"

enum config_type { CONFIG_TEXT, CONFIG_INT, CONFIG_BOOL };

/* X(symbol, key, type, default, min, max, unit, secret, meaning): min and max are of integers. */
/* clang-format off */
#define CONFIG_TABLE(X) \
	X(CFG_LISTEN, "listen", CONFIG_TEXT, "127.0.0.1:8000", 0, 0, "", false, \
	  "Address and port of the HTTP listener; port 0 takes a free one") \
	X(CFG_DATA, "data", CONFIG_TEXT, "./data", 0, 0, "", false, \
	  "Folder of the server's data: the lock, the embedded database, packs and staged uploads") \
	X(CFG_PUBLIC_URL, "public_url", CONFIG_TEXT, "", 0, 0, "", false, \
	  "The URL that users type, when a proxy stands in front; empty: http:// and the listener") \
	X(CFG_DATABASE_URL, "database.url", CONFIG_TEXT, "", 0, 0, "", true, \
	  "sqlite:/path or postgresql://...; empty: scaidrive.db in the data folder") \
	X(CFG_DATABASE_READERS, "database.readers", CONFIG_INT, "4", 1, 64, "connections", false, \
	  "Database connections for reading") \
	X(CFG_HTTP_THREADS, "http.threads", CONFIG_INT, "0", 0, 64, "threads", false, \
	  "Network threads; 0: one per core, at most 4") \
	X(CFG_HTTP_CONNECTIONS, "http.connections", CONFIG_INT, "10000", 16, 1000000, "connections", false, \
	  "Most connections at a time") \
	X(CFG_HTTP_CONNECTIONS_PER_ADDRESS, "http.connections_per_address", CONFIG_INT, "0", 0, 1000000, "connections", \
	  false, "Most connections at a time from one address; 0: no limit (right behind a proxy)") \
	X(CFG_HTTP_IDLE_TIMEOUT, "http.idle_timeout", CONFIG_INT, "75", 5, 3600, "seconds", false, \
	  "A connection without traffic is closed after this") \
	X(CFG_LANES_META, "lanes.meta", CONFIG_INT, "4", 1, 256, "threads", false, \
	  "Workers for metadata requests") \
	X(CFG_LANES_BULK, "lanes.bulk", CONFIG_INT, "8", 1, 256, "threads", false, \
	  "Workers for content, so that slow storage cannot hold up a listing") \
	X(CFG_AUTH_ISSUER, "auth.issuer", CONFIG_TEXT, "scaidrive", 0, 0, "", false, \
	  "The iss claim of this server's own tokens") \
	X(CFG_AUTH_TOKEN_TTL, "auth.token_ttl", CONFIG_INT, "3600", 60, 31622400, "seconds", false, \
	  "Life of a token got by signing in") \
	X(CFG_AUTH_REFRESH_TTL, "auth.refresh_ttl", CONFIG_INT, "7776000", 60, 31622400, "seconds", false, \
	  "A sign-in ends when its refresh token was not used for so long") \
	X(CFG_AUTH_LOGIN_ATTEMPTS, "auth.login_attempts", CONFIG_INT, "10", 1, 10000, "attempts", false, \
	  "Failed sign-ins of one account from one address within the window before 429; twice that from all addresses") \
	X(CFG_AUTH_LOGIN_WINDOW, "auth.login_window", CONFIG_INT, "900", 1, 86400, "seconds", false, \
	  "The window of auth.login_attempts") \
	X(CFG_LIMITS_FILE_MAX_BYTES, "limits.file_max_bytes", CONFIG_INT, "5368709120", 1, INT64_C(1) << 50, "bytes", false, \
	  "Largest file in one multipart request") \
	X(CFG_LIMITS_RATE_PER_TOKEN, "limits.rate_per_token", CONFIG_INT, "0", 0, 1 << 30, "units", false, \
	  "Rate units that one token may use in a limits.rate_window; 0: no limit") \
	X(CFG_LIMITS_RATE_PER_USER, "limits.rate_per_user", CONFIG_INT, "0", 0, 1 << 30, "units", false, \
	  "The same for all tokens of a user together") \
	X(CFG_LIMITS_RATE_PER_TENANT, "limits.rate_per_tenant", CONFIG_INT, "0", 0, 1 << 30, "units", false, \
	  "The same for all users of a tenant together") \
	X(CFG_LIMITS_RATE_WINDOW, "limits.rate_window", CONFIG_INT, "60", 1, 3600, "seconds", false, \
	  "The sliding window of the rate limits; programs are told to expect a minute") \
	X(CFG_STORAGE_MARGIN, "storage.margin_bytes", CONFIG_INT, "134217728", 0, INT64_C(1) << 50, "bytes", false, \
	  "Uploads and new files are refused while the data folder's disk has less room; 0: use it to the last byte") \
	X(CFG_STORAGE_RESERVE, "storage.reserve_bytes", CONFIG_INT, "16777216", 0, INT64_C(1) << 40, "bytes", false, \
	  "Size of a file that is given up when the disk is full all the same, so that deleting goes on (SQLite)") \
	X(CFG_JOBS_LOOK, "jobs.look_s", CONFIG_INT, "60", 0, 3600, "seconds", false, \
	  "How often this server looks which background job is due; 0: it does none") \
	X(CFG_SCRUB_BYTES_PER_S, "scrub.bytes_per_s", CONFIG_INT, "20971520", 0, INT64_C(1) << 40, "bytes", false, \
	  "The scrub reads no more in a second; 0: no limit") \
	X(CFG_COMPAT_DATA_MIRROR, "compat.data_mirror", CONFIG_BOOL, "false", 0, 0, "", false, \
	  "Repeat object-valued sync answers under \"data\", for older sample clients") \
	X(CFG_METRICS_ACCESS, "metrics.access", CONFIG_TEXT, "local", 0, 0, "", false, \
	  "Who may read /metrics: local (requests from this machine that came through no proxy), all, off") \
	X(CFG_LOG_LEVEL, "log.level", CONFIG_TEXT, "info", 0, 0, "", false, \
	  "debug, info, warn or error") \
	X(CFG_LOG_FILE, "log.file", CONFIG_TEXT, "", 0, 0, "", false, \
	  "Log file, opened for appending; empty: standard error") \
	X(CFG_DEBUG_CORE_DUMPS, "debug.core_dumps", CONFIG_BOOL, "false", 0, 0, "", false, \
	  "Allow core dumps; they would hold keys and content")
/* clang-format on */

enum config_key {
#define X(symbol, ...) symbol,
	CONFIG_TABLE(X)
#undef X
	CFG_COUNT
};

enum config_source { CONFIG_DEFAULT, CONFIG_FROM_FILE, CONFIG_FROM_ENV, CONFIG_FROM_FLAG };

struct config_value {
	enum config_source source;
	char *text; /* heap */
	int64_t i;  /* of integers and booleans */
	int line;   /* in the file */
};

struct config {
	struct config_value values[CFG_COUNT];
	char *file; /* path, when one was read */
};

/* All defaults. */
void config_init(struct config *c);
void config_fini(struct config *c);
/* Each returns 0 or E_USAGE with a malloc'ed sentence in *why that names the place. */
int config_file(struct config *c, const char *path, char **why);
/* The text of an INI file, for config_file, tests and the fuzzer; name is for messages. */
int config_ini(struct config *c, const char *name, struct str text, char **why);
/* environ-like. Other SCAIDRIVE_* names are left alone unless they begin like one of our sections. */
int config_env(struct config *c, char *const *env, char **why);
int config_set(struct config *c, const char *key, const char *value, enum config_source source, char **why);

const char *config_text(const struct config *c, enum config_key key);
int64_t config_int(const struct config *c, enum config_key key);
bool config_bool(const struct config *c, enum config_key key);

/* One setting a block: "key = value", then its meaning, unit, range and source as comments; valid as an INI file but for the
 * grouping by section. Secrets are masked. */
void config_print(const struct config *c, struct buf *out);
/* The same as a JSON array of {key, value, source, meaning, unit}. */
void config_print_json(const struct config *c, struct buf *out);

#endif
