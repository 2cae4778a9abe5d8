#include "drive/file.h"

#include "base/name.h"

/* The extensions that people have; the type is a hint for browsers and clients, never trusted. */
static const struct {
	const char *ext, *type;
} types[] = {
    {"7z", "application/x-7z-compressed"},
    {"avi", "video/x-msvideo"},
    {"bmp", "image/bmp"},
    {"bz2", "application/x-bzip2"},
    {"c", "text/x-c"},
    {"conf", "text/plain"},
    {"css", "text/css"},
    {"csv", "text/csv"},
    {"doc", "application/msword"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"eml", "message/rfc822"},
    {"epub", "application/epub+zip"},
    {"flac", "audio/flac"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"h", "text/x-c"},
    {"heic", "image/heic"},
    {"htm", "text/html"},
    {"html", "text/html"},
    {"ico", "image/vnd.microsoft.icon"},
    {"ics", "text/calendar"},
    {"ini", "text/plain"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript"},
    {"json", "application/json"},
    {"log", "text/plain"},
    {"m4a", "audio/mp4"},
    {"md", "text/markdown"},
    {"mkv", "video/x-matroska"},
    {"mov", "video/quicktime"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"odp", "application/vnd.oasis.opendocument.presentation"},
    {"ods", "application/vnd.oasis.opendocument.spreadsheet"},
    {"odt", "application/vnd.oasis.opendocument.text"},
    {"ogg", "audio/ogg"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"ppt", "application/vnd.ms-powerpoint"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"py", "text/x-python"},
    {"rar", "application/vnd.rar"},
    {"rtf", "application/rtf"},
    {"sh", "text/x-shellscript"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"ts", "text/plain"},
    {"tsv", "text/tab-separated-values"},
    {"txt", "text/plain"},
    {"vcf", "text/vcard"},
    {"wav", "audio/wav"},
    {"webm", "video/webm"},
    {"webp", "image/webp"},
    {"xls", "application/vnd.ms-excel"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"xml", "application/xml"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"zip", "application/zip"},
    {"zst", "application/zstd"},
};

struct str mime_by_name(struct str name)
{
	struct str stem, ext;
	name_split(name, &stem, &ext);
	ext = str_skip(ext, 1);
	char first = ext.n ? (char)(ext.p[0] | 0x20) : 0; /* as in the table: small letters and digits stay */
	for (size_t i = 0; ext.n && i < sizeof types / sizeof *types; i++)
		if (types[i].ext[0] == first && str_ieq(ext, str_c(types[i].ext)))
			return str_c(types[i].type);
	return STR("application/octet-stream");
}

/* Signatures at a fixed place, as the formats' own documents give them. */
static const struct {
	unsigned at, n;
	const char *bytes, *type;
} signatures[] = {
    {0, 4, "%PDF", "application/pdf"},
    {0, 8, "\x89PNG\r\n\x1a\n", "image/png"},
    {0, 3, "\xff\xd8\xff", "image/jpeg"},
    {0, 4, "GIF8", "image/gif"},
    {8, 4, "WEBP", "image/webp"},
    {8, 4, "WAVE", "audio/wav"},
    {0, 4, "II*\0", "image/tiff"},
    {0, 4, "MM\0*", "image/tiff"},
    {0, 4, "PK\3\4", "application/zip"},
    {0, 2, "\x1f\x8b", "application/gzip"},
    {0, 4, "\x28\xb5\x2f\xfd", "application/zstd"},
    {0, 3, "BZh", "application/x-bzip2"},
    {0, 6, "7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"},
    {0, 6, "Rar!\x1a\x07", "application/vnd.rar"},
    {0, 4, "OggS", "audio/ogg"},
    {0, 4, "fLaC", "audio/flac"},
    {0, 3, "ID3", "audio/mpeg"},
    {4, 4, "ftyp", "video/mp4"},
    {0, 4, "\x1a\x45\xdf\xa3", "video/x-matroska"},
};

struct str mime_by_content(struct str begin)
{
	for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++)
		if (begin.n >= signatures[i].at + signatures[i].n &&
		    memcmp(begin.p + signatures[i].at, signatures[i].bytes, signatures[i].n) == 0)
			return str_c(signatures[i].type);
	return STR_NULL;
}
