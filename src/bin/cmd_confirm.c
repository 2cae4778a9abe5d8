/* scaidrive confirm: agrees to the deletions that a sync has stopped before (reconcile/guard.h).
 *
 * The word is a small file beside the folder's memory, which the sync reads and removes: which deletions were agreed to. Others need
 * another word. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "bin/client.h"

static char *word_file(struct client *c, const char *replica_file)
{
	return arena_cstr(&c->arena, arena_fmt(&c->arena, "%.*s.confirmed", (int)(strlen(replica_file) - 3), replica_file));
}

bool client_take_word(struct client *c, const char *replica_file, int64_t *which)
{
	char *file = word_file(c, replica_file), text[64];
	AUTO_FD int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
	if (n <= 0 || unlink(file))
		return false;
	return str_to_i64(str_trim(str_n(text, (size_t)n)), which);
}

static int confirm(struct client *c)
{
	struct client_folder folder;
	struct replica r;
	int err = client_folder_of(c, c->words[1], &folder);
	if (!err)
		err = replica_open(&c->ctx, folder.file, &r);
	if (err)
		return client_fault(c, err);
	int64_t remote = r.held_remote, local = r.held_local, which = r.held_which;
	replica_close(&r);
	if (!remote && !local) {
		puts(c->json ? "{\"deletes_on_server\":0,\"deletes_here\":0}" : "Nothing waits for a confirmation.");
		return EXIT_OK;
	}
	char *file = word_file(c, folder.file);
	struct str text = arena_fmt(&c->arena, "%lld\n", (long long)which);
	AUTO_FD int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text.p, text.n) != (ssize_t)text.n)
		return client_fault(c, ctx_fail(&c->ctx, err_from_errno(errno), "cannot write %s: %s", file, strerror(errno)));
	printf(c->json ? "{\"deletes_on_server\":%lld,\"deletes_here\":%lld}\n"
	               : "Confirmed: %lld items may be deleted on the server and %lld here, by the sync that runs or the next one.\n",
	       (long long)remote, (long long)local);
	return EXIT_OK;
}

const struct client_command client_confirm = {"confirm", "DIR", "Agree to deletions that a sync stopped before", 1, 1, confirm};
