/* db_pg: the parts of the PostgreSQL engine, shared between its two files. */
#ifndef SD_DB_DB_PG_H
#define SD_DB_DB_PG_H

#include <libpq-fe.h>

#include "db/db_priv.h"

/* A connection with our settings, within timeout_us; NULL with a sentence in why. */
PGconn *pg_connect(const char *url, int64_t timeout_us, char why[400]);

/* The notifier (db_pg_notify.c): db->engine. Its thread and its connection start with pg_listen or the first notice. */
int pg_start(struct db *db, char **why);
void pg_stop(struct db *db);
void pg_listen(struct db *db);
void pg_notify(struct db *db, int64_t tenant_id);

#endif
