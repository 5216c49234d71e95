"""A simulator for one class of tests: started on free ports, ordered about through its control API, stopped at the end."""

import json
import os
import re
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

TARGET = Path(__file__).resolve().parents[2] / "target"
PROGRAM = os.environ.get("TANDEM_SIMULATOR", str(TARGET / "debug" / "tandem-simulator"))

# Whatever proxy the machine is set up with, it is not asked for the way to this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class SimulatorTest(unittest.TestCase):
    """After each test the simulator must not have seen a request that the vendor's description does not allow, save those
    that the test itself has sent on purpose, and forgets everything."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        authority = str(Path(folder.name) / "authority.pem")
        # It also ends when its standard input closes, so that it does not outlive a test runner that was killed.
        program = subprocess.Popen(
            [PROGRAM, "--exit-with-parent", "--tls", "--ca-out", authority],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        cls.addClassCleanup(cls._stop, program)
        line = program.stdout.readline()
        if not line:
            raise RuntimeError(f"{PROGRAM} ended before it listened")
        said = json.loads(line)
        cls.url, cls.control_url, cls.tls, cls.authority = said["api"], said["control"], said["tls"], said["ca"]
        cls.control("GET", "/control/clock")

    @staticmethod
    def _stop(program):
        program.stdin.close()
        try:
            program.wait(5)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
        program.stdout.close()

    def setUp(self):
        # A test that asks for something wrong says which complaint about it is right.
        self.allowed = None

    def tearDown(self):
        listed = self.control("GET", "/control/violations")["listed"]
        self.control("POST", "/control/reset")
        reasons = [f"{one['method']} {one['path']}: {one['reason']}" for one in listed]
        left = [reason for reason in reasons if not (self.allowed and re.search(self.allowed, reason))]
        self.assertEqual(left, [], "requests that are not described")

    @classmethod
    def control(cls, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(cls.control_url + path, data, headers, method=method)
        try:
            with _direct.open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None

    @classmethod
    def disturb(cls, operation, kind, count=1):
        """Orders that the next `count` calls of an operation are disturbed."""
        cls.control("POST", "/control/faults", {"operation": operation, "kind": kind, "count": count})


def counted(counts, operation):
    """How often an operation was called, answered 429 or refused for a limit, and disturbed."""
    of = counts["operations"].get(operation, {})
    return {name: of.get(name, 0) for name in ("calls", "throttled", "refused", "disturbed")}
