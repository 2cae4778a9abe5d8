#include "drive/schema.h"

#include "chunks/schema.h"

/* Times are microseconds since 1970; flags are smallint 0/1; ids are base/id.h numbers; "0 = none" where a column is
 * not null. A migration that has been released is never edited: add the next number. */

static const char first[] =
    /* gen is the row that every write group of the tenant locks (db.h); seq is the head of the change log (D1). */
    "create table tenants (id bigint primary key, name text not null unique, display_name text not null,"
    " status text not null default 'active', seq bigint not null default 0, floor_seq bigint not null default 0,"
    " gen bigint not null default 0, chunk_key bytea not null, settings text not null default '{}',"
    " created_at bigint not null);\n"

    "create table users (id bigint primary key, tenant_id bigint not null, email text not null, email_key text not null,"
    " name text not null, status text not null default 'active', admin_role text, password_hash text,"
    " issuer text, subject text, created_at bigint not null, last_login_at bigint, gen bigint not null default 0);\n"
    "create unique index users_email on users (tenant_id, email_key);\n"
    "create unique index users_subject on users (tenant_id, issuer, subject) where subject is not null;\n"

    "create table user_groups (id bigint primary key, tenant_id bigint not null, name text not null,"
    " created_at bigint not null);\n"
    "create unique index user_groups_name on user_groups (tenant_id, name);\n"
    "create table user_group_members (group_id bigint not null, user_id bigint not null,"
    " primary key (user_id, group_id)) /*clustered*/;\n"

    "create table signing_keys (kid text primary key, alg text not null, private_jwk text not null,"
    " created_at bigint not null, retired_at bigint);\n"

    /* Sign-ins counted before their password is looked at; key: a digest of the account and/or the address. */
    "create table login_attempts (key bytea primary key, attempts bigint not null, window_end bigint not null)"
    " /*clustered*/;\n"
    "create index login_attempts_end on login_attempts (window_end);\n"

    /* What lets a login last (refresh.h). name: a digest, as are the tokens. A family counts while user_gen is the user's. */
    "create table refresh_families (name bytea primary key, tenant_id bigint not null, user_id bigint not null,"
    " user_gen bigint not null, device_id text, current bytea not null, sibling bytea, previous bytea,"
    " created_at bigint not null, used_at bigint not null, expires_at bigint not null) /*clustered*/;\n"
    "create index refresh_families_user on refresh_families (user_id, used_at);\n"
    "create index refresh_families_end on refresh_families (expires_at);\n"

    "create table shares (id bigint primary key, tenant_id bigint not null, root_id bigint not null, name text not null,"
    " description text, share_type text not null, owner_kind smallint not null, owner_id bigint not null,"
    " is_public smallint not null default 0, deleted_at bigint not null default 0, quota_bytes bigint,"
    " used_bytes bigint not null default 0, settings text not null default '{}', created_at bigint not null,"
    " modified_at bigint not null);\n"
    "create index shares_tenant on shares (tenant_id, id);\n"

    "create table share_members (share_id bigint not null, principal_kind smallint not null,"
    " principal_id bigint not null, role smallint not null, expires_at bigint, created_by bigint not null,"
    " created_at bigint not null, primary key (share_id, principal_kind, principal_id)) /*clustered*/;\n"
    "create index share_members_principal on share_members (principal_kind, principal_id, share_id);\n"

    /* kind: 1 folder, 2 file. The root folder of a share has parent_id 0 and an empty name. Trashing a folder marks the
     * folder's own row alone; what is below it is reached through it. change_seq is the last change of the row itself.
     * trash_key is 0 while the row is live, else its id: names are unique among live siblings, and one index serves all
     * children. The head's facts are repeated here, so that a listing reads one table. */
    "create table nodes (id bigint primary key, tenant_id bigint not null, share_id bigint not null,"
    " parent_id bigint not null, kind smallint not null, name text not null, name_key text not null,"
    " version_id bigint not null default 0, version bigint not null default 0, last_version bigint not null default 0,"
    " size_bytes bigint not null default 0, mime_type text, sha256 bytea, mtime bigint, executable smallint not null"
    " default 0, owner_id bigint not null, created_by bigint not null, created_at bigint not null,"
    " modified_by bigint not null, modified_at bigint not null, deleted_at bigint not null default 0,"
    " deleted_by bigint not null default 0, trash_key bigint not null default 0, change_seq bigint not null, inherit smallint not null default 1);\n"
    "create unique index nodes_name on nodes (parent_id, name_key, trash_key);\n"
    "create index nodes_share on nodes (share_id, id);\n"
    "create index nodes_change on nodes (share_id, change_seq);\n"
    "create index nodes_trash on nodes (share_id, deleted_at) where deleted_at > 0;\n"
    "create index nodes_sha256 on nodes (share_id, sha256) where sha256 is not null;\n"

    /* number 0: staged (D6), bound to created_by and node_id, gone after staged_until. */
    "create table versions (id bigint primary key, tenant_id bigint not null, node_id bigint not null,"
    " number bigint not null, size_bytes bigint not null, sha256 bytea not null, mime_type text, mtime bigint,"
    " executable smallint not null default 0, recipe bytea not null, created_by bigint not null,"
    " device_id text, created_at bigint not null, staged_until bigint not null default 0);\n"
    "create unique index versions_number on versions (node_id, number) where number > 0;\n"
    "create index versions_node on versions (node_id, id);\n"
    "create index versions_staged on versions (staged_until) where staged_until > 0;\n"

    /* The change log (D1, D2). resource_kind is an id_kind; change_type: 1 created 2 updated 3 deleted 4 moved
     * 5 renamed. metadata is the JSON object as it is sent. ancestors (D10): varint ids from the root down to the
     * parent, for later filtering by access. */
    "create table changes (share_id bigint not null, seq bigint not null, tenant_id bigint not null,"
    " resource_kind smallint not null, resource_id bigint not null, change_type smallint not null,"
    " changed_by bigint not null, changed_at bigint not null, old_path text, new_path text,"
    " version_id bigint not null default 0, device_id text, metadata text not null, ancestors bytea,"
    " primary key (share_id, seq)) /*clustered*/;\n"
    "create unique index changes_tenant on changes (tenant_id, seq);\n"

    "create table devices (id bigint primary key, tenant_id bigint not null, user_id bigint not null,"
    " device_id text not null, name text not null, platform text not null, client_version text,"
    " is_active smallint not null default 1, created_at bigint not null, last_seen_at bigint);\n"
    "create unique index devices_id on devices (user_id, device_id);\n"
    "create index devices_tenant on devices (tenant_id, device_id);\n"

    "create table device_cursors (device bigint not null, share_id bigint not null, position bigint not null,"
    " last_sync_at bigint, primary key (device, share_id)) /*clustered*/;\n"

    /* selected_folders, excluded_folders: JSON arrays of folder ids as sent, or null. */
    "create table device_preferences (device bigint not null, share_id bigint not null, sync_enabled smallint not null,"
    " selected_folders text, excluded_folders text, updated_at bigint not null,"
    " primary key (device, share_id)) /*clustered*/;\n"
    "create index device_preferences_age on device_preferences (updated_at);\n"

    "create table conflicts (id bigint primary key, tenant_id bigint not null, share_id bigint not null,"
    " device_id text, user_id bigint not null, resource_kind smallint not null, resource_id bigint not null,"
    " conflict_type text not null, path text, base_version_id bigint not null default 0,"
    " local_version_id bigint not null default 0, server_version_id bigint not null default 0,"
    " copy_id bigint not null default 0, strategy smallint not null default 0, resolution smallint not null default 0,"
    " resolved_at bigint, resolved_by bigint not null default 0, created_at bigint not null,"
    " seq bigint not null default 0);\n" /* seq: the log's head when it was recorded */
    "create index conflicts_share on conflicts (share_id, resolved_at, id);\n"
    "create index conflicts_node on conflicts (resource_id);\n"

    /* Results of apply by op_id (D4), kept 30 days. */
    "create table op_results (device bigint not null, op_id text not null, err smallint not null, status smallint not"
    " null, change_type smallint not null, resource_kind smallint not null, resource_id bigint not null,"
    " version_id bigint not null, version bigint not null, parent_id bigint not null, name text, conflict_id bigint not"
    " null, seq bigint not null, detail text, created_at bigint not null, primary key (device, op_id)) /*clustered*/;\n"
    "create index op_results_age on op_results (created_at);\n"

    /* Idempotency-Key of creating POSTs (D4): what the first one made. */
    "create table idempotency (user_id bigint not null, key text not null, operation text not null,"
    " request_hash bytea not null, resource_kind smallint not null, resource_id bigint not null,"
    " created_at bigint not null, primary key (user_id, key)) /*clustered*/;\n"
    "create index idempotency_age on idempotency (created_at);\n"

    /* Room for the permissions issue (D10): rules on nodes, read by access.c alone. */
    "create table rules (id bigint primary key, tenant_id bigint not null, node_id bigint not null,"
    " principal_kind smallint not null, principal_id bigint not null, rights smallint not null, deny smallint not null,"
    " inherit smallint not null default 1, created_by bigint not null, created_at bigint not null);\n"
    "create unique index rules_principal on rules (node_id, principal_kind, principal_id, deny);\n"

    /* Leases for background work, and for node numbers of idgen. */
    "create table leases (name text primary key, holder text not null, expires_at bigint not null, value bigint);\n"
    "create table facts (key text primary key, value text not null);\n";

/* Chunks that a principal has uploaded and not yet used (D13): the only way from a hash to a chunk besides a recipe. */
static const char chunk_leases[] =
    "create table chunk_leases (tenant_id bigint not null, user_id bigint not null, hash bytea not null,"
    " chunk_id bigint not null, length bigint not null, expires_at bigint not null,"
    " primary key (tenant_id, user_id, hash)) /*clustered*/;\n"
    "create index chunk_leases_end on chunk_leases (tenant_id, expires_at);\n";

static const char third[] =
    /* A resumable upload. status: 1 open, 2 completed, 3 cancelled, 4 ended by inactivity since active_at. Pieces below
     * next_piece are in packs: their chunks stand in upload_parts (recipes: roots for a collector, and so is the pack of the
     * tail, chunks/parts.h). Pieces received before their turn stand in upload_pieces and lie in a staging file each. sha256 is
     * there when the last piece was fed. */
    "create table uploads (id bigint primary key, tenant_id bigint not null, user_id bigint not null,"
    " share_id bigint not null, folder_id bigint not null, name text, replace_file_id bigint not null,"
    " base_version_id bigint not null, strategy smallint not null, staged smallint not null, mime_type text,"
    " mtime bigint, executable smallint, device_id text, checksum bytea, size_bytes bigint not null,"
    " chunk_bytes bigint not null, status smallint not null default 1, next_piece bigint not null default 0, tail bytea,"
    " sha256 bytea, file_id bigint not null default 0, version_id bigint not null default 0,"
    " created_at bigint not null, active_at bigint not null);\n"
    "create index uploads_user on uploads (user_id, status);\n"
    "create index uploads_active on uploads (status, active_at);\n"
    "create table upload_parts (upload_id bigint not null, first_piece bigint not null, recipe bytea not null,"
    " primary key (upload_id, first_piece)) /*clustered*/;\n"
    "create table upload_pieces (upload_id bigint not null, piece bigint not null, file_id bigint not null,"
    " size_bytes bigint not null, xxh bigint not null, primary key (upload_id, piece)) /*clustered*/;\n"
    /* What content that was sent with Content-Encoding gzip has when it is inflated; null: none, or not known. */
    "alter table versions add column decompressed_bytes bigint;\n";

/* Every index is paid for with each row. Nothing reads nodes by change_seq; one index over all versions of a node serves
 * the reads that two served. That numbers are unique is the writer's doing (nodes.last_version), with the tenant locked. */
static const char fewer_indexes[] = "drop index nodes_change;\n"
                                    "drop index versions_number;\n"
                                    "drop index versions_node;\n"
                                    "create index versions_node on versions (node_id, number);\n";

/* Housekeeping walks the table instead (housekeeping.c): an entry here was half as long as its row. */
static const char op_results_age[] = "drop index op_results_age;\n";

/* Leases by the batch, as they are made; chunks: entries of 44 bytes (drive/chunk.c). Those of the old form ended within a day. */
static const char lease_batches[] =
    CHUNKS_SCHEMA_FINDER
    "drop table chunk_leases;\n"
    "create table chunk_leases (id bigint primary key, tenant_id bigint not null, user_id bigint not null,"
    " expires_at bigint not null, unused_bytes bigint not null, chunks bytea not null);\n"
    "create index chunk_leases_user on chunk_leases (user_id, id);\n"
    "create index chunk_leases_end on chunk_leases (expires_at);\n";

/* Background work (drive/job.h): who is at it, when it is due again, what became of the last round, where the next goes on. */
static const char jobs[] =
    "create table jobs (name text primary key, holder bigint not null, held_until bigint not null, due_at bigint not null,"
    " began_at bigint not null, ended_at bigint not null default 0, succeeded_at bigint not null default 0,"
    " rounds bigint not null default 0, items bigint not null default 0, size_bytes bigint not null default 0,"
    " result text not null default '-', state text not null default '') /*clustered*/;\n"
    "delete from leases where name = 'housekeeping';\n";

/* D16: hash: what a piece was claimed to be, when it was; hashes: those of a completed upload, one behind the other, zero where
 * nothing was claimed. A piece that its sender did not have to send lies in chunks (recipe: a root for a collector) from skip_bytes
 * on, and has no file. */
static const char upload_hints[] = "alter table uploads add column hashes bytea;\n"
                                   "alter table upload_parts add column hash bytea;\n"
                                   "alter table upload_pieces add column hash bytea;\n"
                                   "alter table upload_pieces add column recipe bytea;\n"
                                   "alter table upload_pieces add column skip_bytes bigint not null default 0;\n";

/* Recipes of versions that were removed: roots for a collector for an hour more (drive/version.h). */
static const char removed_versions[] =
    CHUNKS_SCHEMA_RETIRED
    "create table removed_versions (id bigint primary key, tenant_id bigint not null, removed_at bigint not null,"
    " recipe bytea not null);\n";

/* Hashes are random, so an index by hash alone has a page of its own to write for nearly every new file. By runs of 4,096
 * changes, new entries fall into the few pages of the newest run; who looks asks every run (file.c). */
static const char hash_runs[] =
    "drop index nodes_sha256;\n"
    "create index nodes_sha256 on nodes (share_id, (change_seq >> 12), sha256) where sha256 is not null;\n";

const struct migration schema_migrations[] = {
    {1, "first light", first},
    {2, "chunk store", CHUNKS_SCHEMA_FIRST},
    {3, "resumable uploads", third},
    {4, "chunk leases", chunk_leases},
    {5, "fewer indexes", fewer_indexes},
    {6, "results of operations have no index by age", op_results_age},
    {7, "chunks by finder, leases by the batch", lease_batches},
    {8, "chunks are marked", CHUNKS_SCHEMA_MARKS},
    {9, "jobs", jobs},
    {10, "pieces that need not be sent", upload_hints},
    {11, "packs retire, removed versions are remembered", removed_versions},
    {12, "contents are found by runs of the log", hash_runs},
};
const size_t schema_n_migrations = sizeof schema_migrations / sizeof *schema_migrations;
