/* name: which file names are allowed, and when two are the same (D19).
 *
 * Names are stored as typed. Two names of one parent are the same when their keys are: NFC, then full Unicode case
 * folding, then NFC again (Unicode 15 D145 with NFC). The table's version is name_unicode_version().
 */
#ifndef SD_BASE_NAME_H
#define SD_BASE_NAME_H

#include "base/arena.h"

/* NULL when the name may be stored, else the reason as a sentence. */
const char *name_problem(struct str name);
/* The comparison key of a valid name, in the arena. */
struct str name_key(struct arena *a, struct str name);
/* NFC form, in the arena; the input itself when it is not UTF-8. */
struct str name_nfc(struct arena *a, struct str name);
const char *name_unicode_version(void);
/* Splits "report.tar.gz" into stem "report.tar" and extension ".gz"; a leading dot does not start an extension. */
void name_split(struct str name, struct str *stem, struct str *ext);
/* At most max bytes of s, cut at a character. */
struct str name_cut(struct str s, size_t max);
/* "stem (label).ext", the stem cut so that the whole fits LIMIT_NAME_BYTES; attempt > 1 gives "stem (label 2).ext". */
struct str name_with_label(struct arena *a, struct str name, struct str label, int attempt);

#endif
