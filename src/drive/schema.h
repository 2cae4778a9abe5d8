/* schema: the tables of the domain, as numbered migrations (db_migrate). ARCHITECTURE.md draws them. */
#ifndef SD_DRIVE_SCHEMA_H
#define SD_DRIVE_SCHEMA_H

#include "db/db.h"

extern const struct migration schema_migrations[];
extern const size_t schema_n_migrations;

#endif
