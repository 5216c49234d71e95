// A simulator for one file of tests: started on free ports, ordered about through its control API, stopped at the end.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { after, afterEach, before } from 'node:test';
import { fileURLToPath } from 'node:url';

const target = new URL('../../target/', import.meta.url);
const program = process.env.TANDEM_SIMULATOR ?? fileURLToPath(new URL('debug/tandem-simulator', target));

// The libraries are installed below target/, where an import from here would not look for them.
export const library = createRequire(new URL('clients/node/', target));

// Registers start, clean-up and stop with the test runner. After each test the simulator must not have seen a request
// that the vendor's description does not allow, save those that the test itself has sent on purpose, and forgets everything.
export function simulator() {
  let allowed;
  const handle = {
    async control(method, path, body) {
      const answer = await fetch(handle.controlUrl + path, {
        method,
        headers: { 'content-type': 'application/json' },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const text = await answer.text();
      assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
      return JSON.parse(text);
    },
    // A test that asks for something wrong says which complaint about it is right.
    allow(complaint) {
      allowed = complaint;
    },
    // Orders that the next `count` calls of an operation are disturbed.
    disturb: (operation, kind, count = 1) => handle.control('POST', '/control/faults', { operation, kind, count }),
  };
  let child;
  let ended;

  before(async () => {
    // It also ends when its standard input closes, so that it does not outlive a test runner that was killed.
    child = spawn(program, ['--exit-with-parent'], { stdio: ['pipe', 'pipe', 'inherit'] });
    ended = once(child, 'exit');
    const lines = createInterface({ input: child.stdout });
    const [line] = await Promise.race([
      once(lines, 'line'),
      ended.then(([code]) => assert.fail(`${program} ended with ${code} before it listened`)),
    ]);
    const said = JSON.parse(line);
    handle.url = said.api;
    handle.controlUrl = said.control;
    await handle.control('GET', '/control/clock');
  });

  afterEach(async () => {
    const { listed } = await handle.control('GET', '/control/violations');
    const reasons = listed.map(one => `${one.method} ${one.path}: ${one.reason}`);
    await handle.control('POST', '/control/reset');
    const right = allowed;
    allowed = undefined;
    assert.deepEqual(reasons.filter(reason => !right?.test(reason)), [], 'requests that are not described');
  });

  after(async () => {
    child.stdin.end();
    const late = setTimeout(() => child.kill(), 5_000);
    await ended;
    clearTimeout(late);
  });

  return handle;
}

// How often an operation was called, answered 429 or refused for a limit, and disturbed.
export function counted(counts, operation) {
  const { calls = 0, throttled = 0, refused = 0, disturbed = 0 } = counts.operations[operation] ?? {};
  return { calls, throttled, refused, disturbed };
}
