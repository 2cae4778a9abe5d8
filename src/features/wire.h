/* wire: how the domain's rows look in the API. Shared by the features that show them; no logic. */
#ifndef SD_FEATURES_WIRE_H
#define SD_FEATURES_WIRE_H

#include "api.h"
#include "drive/file.h"
#include "drive/folder.h"
#include "drive/share.h"

void wire_file(const struct node *n, struct File *out);
/* What an upload of any kind made. */
void wire_uploaded(const struct version_result *r, struct FileUploaded *out);
void wire_folder(const struct node *n, struct Folder *out);
void wire_share(const struct share *s, struct Share *out);
/* Rows of a listing, in ctx's arena. */
void wire_children(struct ctx *ctx, const struct folder_children *c, struct Children *out);
enum resolve_strategy wire_strategy(enum ConflictResolution r);
/* The parent as it is shown: 0 (null) for the share's root. */
int64_t wire_parent(const struct node *n);

#endif
