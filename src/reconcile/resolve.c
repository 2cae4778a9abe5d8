#include "reconcile/resolve.h"

#include "base/mutant.h"
#include "base/name.h"

enum { DEVICE_BYTES_MAX = 60 }; /* so that the date is never what is cut off the label */

static bool same_bytes(const struct resolve_side *a, const struct resolve_side *b)
{
	if (a->deleted || b->deleted)
		return a->deleted && b->deleted;
	if (a->version_id && a->version_id == b->version_id)
		return true;
	return a->has_checksum && b->has_checksum && sha256_eq(&a->checksum, &b->checksum);
}

static struct resolve_outcome edit_over_edit(enum resolve_strategy strategy)
{
	struct resolve_outcome o = {.conflict = true};
	if (strategy == RESOLVE_LAST_WRITER_WINS || strategy == RESOLVE_CLIENT_WINS) {
		o.head = RESOLVE_HEAD_INCOMING;
		return o;
	}
	o.head = RESOLVE_HEAD_STAYS;
	o.keep_incoming = true;
	o.copy = strategy == RESOLVE_KEEP_BOTH;
	o.open = strategy == RESOLVE_MANUAL;
	return o;
}

static struct resolve_outcome edit_over_delete(enum resolve_strategy strategy)
{
	struct resolve_outcome o = {.conflict = true};
	if (strategy == RESOLVE_SERVER_WINS || strategy == RESOLVE_MANUAL) {
		o.head = RESOLVE_HEAD_STAYS;
		o.keep_incoming = true;
		o.open = strategy == RESOLVE_MANUAL;
		return o;
	}
	o.head = RESOLVE_HEAD_INCOMING;
	o.restore = true;
	return o;
}

static struct resolve_outcome delete_over_edit(enum resolve_strategy strategy)
{
	struct resolve_outcome o = {.conflict = true};
	o.head = strategy == RESOLVE_CLIENT_WINS ? RESOLVE_HEAD_DELETED : RESOLVE_HEAD_STAYS;
	o.open = strategy == RESOLVE_MANUAL;
	return o;
}

struct resolve_outcome resolve(enum resolve_strategy strategy, int64_t base_version_id, const struct resolve_side *head,
                               const struct resolve_side *incoming)
{
	if (same_bytes(head, incoming))
		return (struct resolve_outcome){.head = RESOLVE_HEAD_STAYS};
	if (!head->deleted && base_version_id && (base_version_id == head->version_id || mutant(M_RESOLVE_ALWAYS_CURRENT)))
		return (struct resolve_outcome){.head = incoming->deleted ? RESOLVE_HEAD_DELETED : RESOLVE_HEAD_INCOMING};
	if (strategy == RESOLVE_NONE)
		return (struct resolve_outcome){.refused = true};
	if (head->deleted)
		return edit_over_delete(strategy);
	return incoming->deleted ? delete_over_edit(strategy) : edit_over_edit(strategy);
}

struct str resolve_copy_name(struct arena *a, struct str name, struct str device, struct str date, int attempt)
{
	device = name_cut(str_trim(device), DEVICE_BYTES_MAX);
	char *harmless = arena_cstr(a, device.p ? device : STR(""));
	for (size_t i = 0; i < device.n; i++) {
		unsigned char c = (unsigned char)harmless[i];
		if (c < 32 || c == 127 || c == '/' || c == '\\')
			harmless[i] = '-';
	}
	struct str clean = str_n(harmless, device.n);
	if (name_problem(clean) && device.n)
		clean = STR("another device"); /* not UTF-8, or control characters beyond ASCII */
	struct str label = clean.n ? arena_fmt(a, "conflicted copy %.*s %.*s", STR_ARG(clean), STR_ARG(date))
	                           : arena_fmt(a, "conflicted copy %.*s", STR_ARG(date));
	return name_with_label(a, name, label, attempt);
}

static const char *const names[] = {
    [RESOLVE_NONE] = "",
    [RESOLVE_LAST_WRITER_WINS] = "LAST_WRITER_WINS",
    [RESOLVE_KEEP_BOTH] = "KEEP_BOTH",
    [RESOLVE_SERVER_WINS] = "SERVER_WINS",
    [RESOLVE_CLIENT_WINS] = "CLIENT_WINS",
    [RESOLVE_MANUAL] = "MANUAL",
};

const char *resolve_strategy_name(enum resolve_strategy s)
{
	return (size_t)s < sizeof(names) / sizeof(names[0]) ? names[s] : "";
}

bool resolve_strategy_parse(struct str s, enum resolve_strategy *out)
{
	for (int i = RESOLVE_LAST_WRITER_WINS; i <= RESOLVE_MANUAL; i++) {
		if (str_eq(s, str_c(names[i]))) {
			*out = (enum resolve_strategy)i;
			return true;
		}
	}
	return false;
}
