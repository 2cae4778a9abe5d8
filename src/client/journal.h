/* journal: what was done in one synced folder and why, for `scaidrive why` and traces. A text file beside the folder's
 * database, one JSON object a line:
 *
 *   {"at_us":1795000000000000,"op":"fetch","case":2,"id":812,"kind":"file","size":12,"ok":true,"path":"a/b.txt",
 *    "why":"download it: ...; case 02"}          with "ok":false also "code" and "detail"
 *
 * It decides nothing and is not synced to the disk: a crash may cost the last lines. When it is larger than JOURNAL_BYTES it
 * becomes FILE.old, whose predecessor is dropped.
 */
#ifndef SD_CLIENT_JOURNAL_H
#define SD_CLIENT_JOURNAL_H

#include "base/buf.h"
#include "base/json.h"
#include "client/agent.h"

enum { JOURNAL_BYTES = 8 << 20 };

struct journal {
	char *file;
	int fd; /* -1: cannot be written; then nothing is kept */
	struct buf waiting;
};

void journal_open(struct journal *j, const char *file);
void journal_add(struct journal *j, const struct agent_event *e, int64_t now_us);
void journal_flush(struct journal *j);
void journal_close(struct journal *j);

/* Every entry that can be read, oldest first; what on_entry returns ends it. *cut: lines that cannot, which a crash tore.
 * E_IO: a file is there and cannot be read. */
typedef int journal_fn(void *arg, struct json_object *entry);
int journal_read(const char *file, journal_fn *on_entry, void *arg, size_t *cut);

#endif
