"""Checks what a reader would trip over: tests/tidy.py [ROOT]. Silent when all is well.

Files of at most 1,000 lines and headers of at most 300; no marks of unfinished work; no functions that cannot be used
safely; no path of one particular machine. Looks at every tracked text file (or, without git, at every file of the
source folders); what is generated is left out."""
import os
import re
import subprocess
import sys

GENERATED = {'docs/openapi.json', 'docs/integrate/reference.md', 'tests/interop/package-lock.json'}
HERE = {'tests/tidy.py', 'tests/checks/test_tidy.py'}  # they name what they look for
FOLDERS = ('src', 'api', 'tests', 'tools', 'bench', 'docs', 'packaging')
TEXT = ('.c', '.h', '.py', '.sh', '.yaml', '.md', '.ini', '.conf', '.service', '.build', '.txt', '.json', '.sql')
BANNED = re.compile(r'\b(strcpy|strcat|stpcpy|sprintf|vsprintf|atoi|atol|atoll|alloca|gets|strtok|tmpnam|mktemp)\s*\(')
UNFINISHED = re.compile(r'\b(TODO|FIXME|XXX|HACK|WIP)\b')
MACHINE = re.compile(r'(?<![\w.}\]])(/(?:work|home|root|Users)/\w)')
LONG = {'.h': 300}


def tracked(root):
    try:
        out = subprocess.run(['git', '-C', root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
                             capture_output=True, check=True).stdout
        names = [n for n in out.decode().split('\0') if n]
        if names:
            return names
    except (OSError, subprocess.CalledProcessError):
        pass
    return [os.path.relpath(os.path.join(d, n), root) for f in FOLDERS for d, _, ns in os.walk(os.path.join(root, f))
            for n in ns if 'node_modules' not in d and '__pycache__' not in d]


def check(root):
    faults = []
    for path in sorted(set(tracked(root)) - GENERATED - HERE):
        ext = os.path.splitext(path)[1]
        full = os.path.join(root, path)
        if (ext and ext not in TEXT) or not os.path.isfile(full):
            continue
        try:
            with open(full, encoding='utf-8') as f:
                lines = f.read().splitlines()
        except UnicodeDecodeError:
            continue
        if len(lines) > LONG.get(ext, 1000):
            faults.append(f'{path}: {len(lines)} lines; it has two jobs')
        for number, line in enumerate(lines, 1):
            for pattern, why in ((UNFINISHED, 'is unfinished'), (MACHINE, 'is a path of one machine')):
                found = pattern.search(line)
                if found:
                    faults.append(f'{path}:{number}: {found[1]} {why}')
            found = ext in ('.c', '.h') and BANNED.search(line)
            if found:
                faults.append(f'{path}:{number}: {found[1]} is not used here')
    return faults


if __name__ == '__main__':
    found = check(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    print('\n'.join(found), end='\n' if found else '')
    sys.exit(1 if found else 0)
