/* check_priv: what the parts of the check share. check.c: the whole and its report; check_rules.c: what one query can
 * tell; check_content.c: versions, leases, uploads; check_log.c: the change log. */
#ifndef SD_DRIVE_CHECK_PRIV_H
#define SD_DRIVE_CHECK_PRIV_H

#include "base/id.h"
#include "drive/check.h"

struct check {
	const struct check_config *config;
	struct check_totals *totals;
	struct store_check *store;
	struct arena arena; /* of one page, one finding */
};

/* Where something is; zero what is not known. */
struct check_place {
	struct rid subject;
	int64_t node_id, share_id, version;
};

/* Not inside a transaction: it looks the names up. */
void check_tell(struct check *c, const char *code, const struct check_place *at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void check_progress(struct check *c, const char *what, int64_t done);

/* A row that breaks a rule of check_rules.c; is, should: the two numbers of its sentence. */
struct broken {
	struct check_place at;
	int64_t is, should;
};
/* The first max rows that break the rule of that code. */
int check_rule_find(struct tx *tx, const char *code, struct broken *found, size_t max, size_t *n);
/* What is wrong with the name of a node, or NULL. */
const char *check_name(struct arena *a, struct str name, struct str key, bool is_root);

/* The parts. Not 0: the database failed. */
int check_rules(struct check *c);
int check_names(struct check *c);
int check_versions(struct check *c);
int check_leases(struct check *c);
int check_uploads(struct check *c);
int check_staging(struct check *c);
int check_log(struct check *c);

#endif
