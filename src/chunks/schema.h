/* schema: the tables of the chunk store, one text a migration (db_migrate); drive/schema.c gives them their numbers.
 * A text that has been released is never edited.
 *
 * packs.size_bytes: stored bytes that rows of chunks point to; the rest of the file is heads, tables and garbage.
 * chunk_marks: few rows; marks.h says what they mean. */
#ifndef SD_CHUNKS_SCHEMA_H
#define SD_CHUNKS_SCHEMA_H

#define CHUNKS_SCHEMA_FIRST \
	"create table packs (" \
	"id bigint primary key, tenant_id bigint not null, size_bytes bigint not null, state smallint not null, " \
	"created_at bigint not null);\n" \
	"create table chunks (" \
	"id bigint primary key, tenant_id bigint not null, hash bytea not null, pack_id bigint not null, " \
	"offset_bytes bigint not null, stored_len bigint not null, raw_len bigint not null, codec smallint not null, " \
	"xxh bigint not null);\n" \
	"create unique index chunks_by_hash on chunks (tenant_id, hash);\n"

/* From a hash to a chunk the finder leads (finder.h). */
#define CHUNKS_SCHEMA_FINDER "drop index chunks_by_hash;\n"

/* Chunks that no new upload may use (marks.h). */
#define CHUNKS_SCHEMA_MARKS \
	"create table chunk_marks (" \
	"chunk_id bigint primary key, tenant_id bigint not null, reason smallint not null, since_at bigint not null);\n"

/* state: enum pack_state of index.h; retired_at: since when it is not PACK_LIVE. */
#define CHUNKS_SCHEMA_RETIRED "alter table packs add column retired_at bigint not null default 0;\n"

#endif
