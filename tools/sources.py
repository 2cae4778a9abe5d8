"""Lists files below a folder that match a pattern, one a line, sorted: sources.py DIR PATTERN [--not PATTERN ...]"""
import fnmatch
import os
import sys

top, pattern = sys.argv[1], sys.argv[2]
refuse = [a for a in sys.argv[3:] if a != '--not']
found = []
for folder, _, names in os.walk(top):
    for name in names:
        path = os.path.join(folder, name)
        if fnmatch.fnmatch(name, pattern) and not any(
                fnmatch.fnmatch(name, r) or fnmatch.fnmatch(os.path.relpath(path, top), r) for r in refuse):
            found.append(path)
print('\n'.join(sorted(found)))
