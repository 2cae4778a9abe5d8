"""Everything that ./test runs after the packages are there. Prints each step's result and at the end one line:
    N passed, N failed, N skipped
Exit code 0 only when nothing failed. Options: --build DIR (default build-test), --only NAME (repeatable), --list.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as xml

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SANITIZERS = {
    'ASAN_OPTIONS': 'detect_leaks=1:detect_stack_use_after_return=0',
    'UBSAN_OPTIONS': 'print_stacktrace=1:halt_on_error=1',
    'LSAN_OPTIONS': 'print_suppressions=0',
}


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.lock = threading.Lock()

    def add(self, step, passed, failed, skipped, seconds, text=''):
        with self.lock:
            self.passed += passed
            self.failed += failed
            self.skipped += skipped
            print(f'{"ok  " if not failed else "FAIL"} {step:<18} {passed} passed, {failed} failed'
                  + (f', {skipped} skipped' if skipped else '') + f'   ({seconds:.0f} s)', flush=True)
            if failed and text:
                print('     ' + '\n     '.join(text.rstrip().splitlines()[-150:]), flush=True)


class Steps:
    def __init__(self, build):
        self.build = os.path.join(ROOT, build)
        self.tally = Tally()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith('SCAIDRIVE')} | SANITIZERS
        for keep in ('SCAIDRIVE_SEEDS', 'SCAIDRIVE_TEST_PG_URL'):
            if keep in os.environ:
                self.env[keep] = os.environ[keep]
        self.env |= {'SCAIDRIVED': os.path.join(self.build, 'scaidrived'), 'SCAIDRIVE_CLIENT': os.path.join(self.build, 'scaidrive'),
                     'SCAIDRIVE_BUILD': self.build, 'PYTHONDONTWRITEBYTECODE': '1'}
        self.logs = os.path.join(self.build, 'test-logs')

    def sh(self, args, timeout, env=None, cwd=ROOT):
        """(exit code, output, seconds); a step that hangs is ended and failed."""
        begin = time.monotonic()
        p = subprocess.Popen(args, cwd=cwd, env=self.env | (env or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             stdin=subprocess.DEVNULL, text=True, errors='replace', start_new_session=True)
        try:
            out, _ = p.communicate(timeout=timeout)
            code = p.returncode
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, 9)
            out, _ = p.communicate()
            out, code = out + f'\nended after {timeout} s', 124
        return code, out, time.monotonic() - begin

    def whole(self, step, args, timeout, env=None):
        """A step that counts as one test."""
        code, out, seconds = self.sh(args, timeout, env)
        self.tally.add(step, int(code == 0), int(code != 0), 0, seconds, out)
        return code == 0

    def pytest(self, step, *args, timeout=300, env=None):
        report = os.path.join(self.logs, step + '.xml')
        if os.path.exists(report):
            os.unlink(report)
        code, out, seconds = self.sh([sys.executable, '-m', 'pytest', '-q', '-ra', '-p', 'no:cacheprovider',
                                      '--junitxml', report, *args], timeout, env)
        with open(os.path.join(self.logs, step + '.log'), 'w') as f:
            f.write(out)
        n = {'tests': 0, 'failures': 0, 'errors': 0, 'skipped': 0}
        if os.path.exists(report):
            for suite in xml.parse(report).getroot().iter('testsuite'):
                for key in n:
                    n[key] += int(suite.get(key, 0))
        failed = n['failures'] + n['errors']
        if code not in (0, 1, 5) or not os.path.exists(report):  # it broke, whatever the report says
            failed = max(failed, 1)
        passed = max(n['tests'] - n['failures'] - n['errors'] - n['skipped'], 0)
        self.tally.add(step, passed, failed, n['skipped'], seconds, out)
        return failed == 0

    # ---- steps ----
    def checks(self):
        self.pytest('checks', 'tests/checks', 'tests/api_generator', timeout=120)
        self.whole('api documents', [sys.executable, 'api/generate.py', '--docs', 'docs', '--check'], 60)

    def compile(self):
        os.makedirs(self.logs, exist_ok=True)
        if not os.path.exists(os.path.join(self.build, 'build.ninja')):
            code, out, seconds = self.sh(['meson', 'setup', self.build, '--buildtype=debug', '-Db_sanitize=address,undefined',
                                          '-Db_lundef=false'], 120)
        else:  # meson lists the sources when it is set up, and files may have come or gone
            code, out, seconds = self.sh(['meson', 'setup', '--reconfigure', self.build], 120)
        if code:
            self.tally.add('build', 0, 1, 0, seconds, out)
            return False
        code, out, seconds = self.sh(['ninja', '-C', self.build], 420)
        tests = code == 0 and self.sh(['meson', 'test', '-C', self.build, '--list'], 60)[1]
        if code == 0 and tests:
            # unit tests are not built by default; build them here, so that a step's time is its own
            names = sorted(set(re.findall(r'[\w-]+$', tests, re.M)))
            code, out, more = self.sh(['ninja', '-C', self.build, *('test-' + n for n in names)], 420)
            seconds += more
        self.tally.add('build', int(code == 0), int(code != 0), 0, seconds, out)
        return code == 0

    def unit(self):
        begin = time.monotonic()
        code, out, _ = self.sh(['meson', 'test', '-C', self.build, '--no-rebuild', '--print-errorlogs', '-t', '2'], 300)
        passed = failed = skipped = 0
        log = os.path.join(self.build, 'meson-logs', 'testlog.json')
        for line in open(log, errors='replace') if os.path.exists(log) else []:
            t = json.loads(line)
            text = (t.get('stdout') or '') + (t.get('stderr') or '')
            p, f, s = (sum(map(int, re.findall(r'\[\s+%s\s+\] (\d+) test' % word, text))) for word in ('PASSED', 'FAILED', 'SKIPPED'))
            if t.get('result') not in ('OK', 'SKIP') and f == 0:
                f = 1
            if t.get('result') == 'OK' and p + s == 0:
                p = 1
            passed, failed, skipped = passed + p, failed + f, skipped + s
        if code and not failed:
            failed = 1
        self.tally.add('unit tests', passed, failed, skipped, time.monotonic() - begin, out)

    def api(self, engine):
        self.pytest('api on ' + engine, 'tests/api', timeout=400, env={'SCAIDRIVE_TEST_DB': engine})

    def interop(self):
        if os.path.exists(os.path.join(ROOT, 'tests', 'interop', 'conftest.py')):
            self.pytest('interop', 'tests/interop', timeout=240)

    def crash(self):
        build = os.path.relpath(self.build, ROOT)
        for name, args in (('kill_server.py', ['--rounds', '6']), ('two_clients.py', ['--seconds', '30'])):
            path = os.path.join('tests', 'crash', name)
            if os.path.exists(os.path.join(ROOT, path)):
                self.whole(name[:-3].replace('_', ' '), [sys.executable, path, '--build', build, *args], 240)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--build', default='build-test')
    p.add_argument('--only', action='append', choices=['checks', 'unit', 'sqlite', 'postgresql', 'interop', 'crash'])
    args = p.parse_args()
    steps = Steps(args.build)
    os.makedirs(steps.logs, exist_ok=True)
    wanted = args.only or ['checks', 'unit', 'sqlite', 'postgresql', 'interop', 'crash']
    begin = time.monotonic()
    if 'checks' in wanted:
        steps.checks()
    if wanted == ['checks'] or steps.compile():
        if 'unit' in wanted:
            steps.unit()
        # Two chains side by side: they mostly wait for disks and password hashes.
        chains = [[steps.api, 'sqlite'] if 'sqlite' in wanted else None, [steps.api, 'postgresql'] if 'postgresql' in wanted else None]
        threads = [threading.Thread(target=c[0], args=c[1:]) for c in chains if c]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if 'interop' in wanted:
            steps.interop()
        if 'crash' in wanted:
            steps.crash()
    t = steps.tally
    print(f'in {time.monotonic() - begin:.0f} s; logs in {os.path.relpath(steps.logs, ROOT)}')
    print(f'{t.passed} passed, {t.failed} failed' + (f', {t.skipped} skipped' if t.skipped else ''), flush=True)
    return 1 if t.failed or not t.passed else 0


if __name__ == '__main__':
    if not shutil.which('meson'):
        sys.exit('meson is missing: run ./test, which installs what is needed')
    sys.exit(main())
