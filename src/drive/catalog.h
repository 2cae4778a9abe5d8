/* catalog: what packs cannot tell of themselves, kept beside them: tenants, people, shares, names and places, versions with their
 * recipes. Should the database be lost, packs and catalog make it anew (scaidrived fsck --rebuild), as of the moment when the catalog
 * was written; what came later the devices bring back, as after a restore.
 *
 * It is a point of drive/backup.h without packs, written by a job into packs/catalog/: once an hour when something changed,
 * and never so often that it takes more than a hundredth of the time. The rows of chunks are not in it (packs tell them), nor the
 * change log (it begins anew), nor answers kept for those who ask twice.
 *
 * It is no backup: it lies on the disk of what it describes.
 */
#ifndef SD_DRIVE_CATALOG_H
#define SD_DRIVE_CATALOG_H

#include "drive/backup.h"
#include "drive/job.h"

#define CATALOG_FOLDER "catalog" /* below the packs */

extern const struct job job_catalog;

#endif
