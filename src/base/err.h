/* err: the one table of faults: symbol, HTTP status, wire code, default sentence.
 *
 * Fallible functions return 0 or one of these (positive). The detail is written once, where the fault happens, into
 * the request's ctx (ctx_fail); http/ turns both into {"detail", "error", "meta"} in one place (D26).
 */
#ifndef SD_BASE_ERR_H
#define SD_BASE_ERR_H

/* clang-format off */
#define ERR_TABLE(X) \
	X(E_BAD_REQUEST,        400, "BAD_REQUEST",            "The request is malformed.") \
	X(E_CURSOR_INVALID,     400, "SYNC_CURSOR_INVALID",    "The cursor is not valid here; start again from GET /api/v1/sync/snapshot.") \
	X(E_CHECKSUM,           400, "CHECKSUM_MISMATCH",      "The content does not match its checksum.") \
	X(E_UNAUTHENTICATED,    401, "AUTH_TOKEN_INVALID",     "Not authenticated.") \
	X(E_LOGIN_FAILED,       401, "AUTH_LOGIN_FAILED",      "The e-mail address or the password is wrong.") \
	X(E_FORBIDDEN,          403, "PERMISSION_DENIED",      "Permission denied.") \
	X(E_SUSPENDED,          403, "AUTHZ_USER_SUSPENDED",   "This account is suspended.") \
	X(E_NOT_FOUND,          404, "NOT_FOUND",              "Not found.") \
	X(E_METHOD,             405, "METHOD_NOT_ALLOWED",     "Method not allowed.") \
	X(E_CONFLICT,           409, "CONFLICT",               "The request does not fit the present state.") \
	X(E_NAME_CONFLICT,      409, "NAME_CONFLICT",          "A sibling of that name exists.") \
	X(E_SYNC_CONFLICT,      409, "SYNC_CONFLICT",          "The version does not belong to this file.") \
	X(E_VERSION_STALE,      409, "SYNC_VERSION_STALE",     "base_version_id is not the current version.") \
	X(E_CHUNK_MISSING,      409, "CHUNK_MISSING",          "The caller does not have that chunk; send it first.") \
	X(E_MOVE_CYCLE,         409, "MOVE_CYCLE",             "A folder cannot be moved into itself or below itself.") \
	X(E_IDEMPOTENCY,        409, "IDEMPOTENCY_KEY_REUSED", "That Idempotency-Key was used for another request.") \
	X(E_GONE,               410, "GONE",                   "The resource is in the trash; restore it first.") \
	X(E_EXPIRED,            410, "EXPIRED",                "The resource has expired.") \
	X(E_LENGTH_REQUIRED,    411, "LENGTH_REQUIRED",        "A Content-Length is required.") \
	X(E_PRECONDITION,       412, "PRECONDITION_FAILED",    "A precondition of the request does not hold.") \
	X(E_TOO_LARGE,          413, "PAYLOAD_TOO_LARGE",      "The request is larger than allowed.") \
	X(E_MEDIA_TYPE,         415, "UNSUPPORTED_MEDIA_TYPE", "The content type is not supported here.") \
	X(E_RANGE,              416, "RANGE_NOT_SATISFIABLE",  "The range lies outside the content.") \
	X(E_INVALID,            422, "VALIDATION_ERROR",       "The request does not fit the schema.") \
	X(E_NAME_INVALID,       422, "NAME_INVALID",           "The name is not allowed.") \
	X(E_LEASE,              423, "LOCKED",                 "The resource is locked.") \
	X(E_RATE_LIMITED,       429, "RATE_LIMITED",           "Too many requests.") \
	X(E_HEADERS_TOO_LARGE,  431, "HEADERS_TOO_LARGE",      "The request headers are too large.") \
	X(E_INTERNAL,           500, "INTERNAL",               "Internal error.") \
	X(E_IO,                 500, "IO_ERROR",               "The storage failed.") \
	X(E_CORRUPT,            500, "CONTENT_CORRUPT",        "Stored content is damaged.") \
	X(E_DB,                 500, "DATABASE_ERROR",         "The database failed.") \
	X(E_UPSTREAM,           502, "UPSTREAM_ERROR",         "An upstream service failed.") \
	X(E_BUSY,               503, "OVERLOADED",             "The server is busy; try again shortly.") \
	X(E_READ_ONLY,          503, "READ_ONLY",              "The storage failed; the server does not accept writes.") \
	X(E_SHUTDOWN,           503, "SHUTTING_DOWN",          "The server is stopping.") \
	X(E_TIMEOUT,            504, "TIMEOUT",                "The operation took too long.") \
	X(E_QUOTA,              507, "QUOTA_EXCEEDED",         "A quota would be exceeded.") \
	X(E_NO_SPACE,           507, "STORAGE_FULL",           "The storage is full.") \
	/* client side and tools only */ \
	X(E_NETWORK,            599, "NETWORK",                "The server cannot be reached.") \
	X(E_CHANGED,            599, "CHANGED_MEANWHILE",      "The file changed meanwhile.") \
	X(E_USAGE,              599, "USAGE",                  "The command line is not valid.") \
	X(E_CANCELLED,          599, "CANCELLED",              "Cancelled.")
/* clang-format on */

enum err {
	E_OK = 0,
#define X(symbol, status, code, sentence) symbol,
	ERR_TABLE(X)
#undef X
	E_COUNT
};

struct err_info {
	const char *symbol, *code, *sentence;
	int status;
};

/* Any int is accepted; an unknown one reads as E_INTERNAL. E_OK has status 200. */
const struct err_info *err_info(int err);
/* From errno after a failed system call: ENOSPC/EDQUOT -> E_NO_SPACE, ENOENT -> E_NOT_FOUND, the rest E_IO. */
int err_from_errno(int saved_errno);
/* The error of a wire code, or E_OK when the code is unknown. */
int err_from_code(const char *code);

#endif
