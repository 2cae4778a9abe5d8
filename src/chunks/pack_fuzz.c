/* Any bytes as a pack file. The checksums are repaired first, so that what lies behind them is reached. */
#include "chunks/pack.h"
#include "io/disk_fault.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int check_entry(void *arg, const struct pack_entry *e, const char *stored, bool intact)
{
	const size_t *size = arg;
	(void)intact, (void)stored;
	must(e->offset >= 2 * PACK_HEADER_BYTES && (size_t)e->offset + e->stored_len <= *size);
	return E_OK;
}

static void repair(uint8_t *p, size_t size)
{
	uint64_t x, len;
	uint32_t n;
	if (size < 2 * PACK_HEADER_BYTES)
		return;
	x = xxh3_64(p, 56);
	memcpy(p + 56, &x, 8);
	p += PACK_HEADER_BYTES;
	size -= 2 * PACK_HEADER_BYTES;
	memcpy(&len, p + 24, 8);
	memcpy(&n, p + 32, 4);
	if (len <= size && (uint64_t)n * PACK_ENTRY_BYTES <= size - len) {
		x = xxh3_64(p + PACK_HEADER_BYTES + len, (size_t)n * PACK_ENTRY_BYTES);
		memcpy(p + 48, &x, 8);
	}
	x = xxh3_64(p, 56);
	memcpy(p + 56, &x, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk *d = disk_fault_new(1);
	struct disk_file *f;
	struct pack_info info;
	struct buf b = {0};
	buf_put(&b, data, size);
	repair((uint8_t *)b.p, size);
	must(disk_open(d, "x", DISK_WRITE | DISK_CREATE, &f) == E_OK && disk_pwrite(f, b.p, b.n, 0) == E_OK);
	for (int verify = 0; verify < 2; verify++) {
		int err = pack_scan(f, verify, check_entry, &size, &info);
		must(err == E_OK || err == E_CORRUPT);
		must(info.valid_bytes <= info.file_bytes);
	}
	disk_close(f);
	disk_free(d);
	buf_fini(&b);
	return 0;
}
