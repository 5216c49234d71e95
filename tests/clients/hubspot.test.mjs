// HubSpot's own library for Node, @hubspot/api-client, as it is published. Its option `basePath` is the address of the API.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { test } from 'node:test';
import { counted, library, simulator } from './simulator.mjs';

const { Client, Signature } = library('@hubspot/api-client');
const hubspot = simulator();

// A search sees every write at once, so that no test waits for the index.
const NO_LAG = { indexLagMinMs: 0, indexLagMaxMs: 0 };

async function account(more = {}, webhooks = {}) {
  const app = await hubspot.control('POST', '/control/apps', { webhooks });
  const made = await hubspot.control('POST', '/control/accounts', { appId: app.appId, settings: NO_LAG, ...more });
  return { ...app, ...made.accounts[0] };
}

const client = (of, more = {}) => new Client({ accessToken: of.accessToken, basePath: hubspot.url, ...more });
const counts = of => hubspot.control('GET', `/control/accounts/${of.portalId}/counts`);
const status = code => error => {
  assert.equal(error.code, code, String(error));
  return true;
};

test('a contact is created, read, changed, found by its address and archived', async () => {
  const contacts = client(await account()).crm.contacts;
  const made = await contacts.basicApi.create({ properties: { email: 'Ann@Example.com', firstname: 'Ann' } });
  assert.equal(made.properties.email, 'ann@example.com');
  assert.ok(made.createdAt instanceof Date && !Number.isNaN(made.createdAt.getTime()));

  const changed = await contacts.basicApi.update(made.id, { properties: { firstname: 'Änne', phone: '' } });
  assert.equal(changed.properties.firstname, 'Änne');
  const read = await contacts.basicApi.getById('ann@example.com', ['firstname', 'phone'], ['firstname'], undefined, false, 'email');
  assert.equal(read.id, made.id);
  assert.equal(read.properties.firstname, 'Änne');
  assert.equal(read.properties.phone, null);
  assert.deepEqual(read.propertiesWithHistory.firstname.map(old => old.value), ['Änne', 'Ann']);

  await contacts.basicApi.archive(made.id);
  await assert.rejects(contacts.basicApi.getById(made.id), status(404));
  const archived = await contacts.basicApi.getById(made.id, undefined, undefined, undefined, true);
  assert.equal(archived.archived, true);
});

test('refusals arrive with their status and what is wrong', async () => {
  const contacts = client(await account()).crm.contacts.basicApi;
  const { id } = await contacts.create({ properties: { email: 'ann@example.com' } });
  await assert.rejects(contacts.create({ properties: { email: 'ann@example.com' } }), error => {
    assert.equal(error.code, 409);
    assert.match(error.body.message, new RegExp(`Existing ID: ${id}`));
    return true;
  });
  await assert.rejects(contacts.update(id, { properties: { colour: 'red' } }), error => {
    assert.equal(error.code, 400);
    assert.equal(error.body.category, 'VALIDATION_ERROR');
    assert.match(JSON.stringify(error.body), /PROPERTY_DOESNT_EXIST/);
    return true;
  });
});

test('all pages of a list and of a search give each contact once', async () => {
  const of = await account();
  const records = Array.from({ length: 250 }, (_, i) => ({ email: `p${i}@example.com`, lastname: i % 2 ? 'Odd' : 'Even' }));
  await hubspot.control('POST', `/control/accounts/${of.portalId}/contacts/import`, { records, quiet: true });
  const contacts = client(of).crm.contacts;

  const listed = await contacts.getAll(100, undefined, ['email']);
  assert.deepEqual(new Set(listed.map(one => one.properties.email)), new Set(records.map(one => one.email)));
  assert.equal(listed.length, 250);

  const found = [];
  let after;
  do {
    const page = await contacts.searchApi.doSearch({
      filterGroups: [{ filters: [{ propertyName: 'lastname', operator: 'EQ', value: 'Odd' }] }],
      sorts: ['hs_object_id'],
      properties: ['email', 'lastname'],
      limit: 50,
      after,
    });
    assert.equal(page.total, 125);
    found.push(...page.results);
    after = page.paging?.next?.after;
  } while (after);
  assert.equal(new Set(found.map(one => one.id)).size, 125);
  assert.equal(found.length, 125);
  assert.ok(found.every(one => one.properties.lastname === 'Odd'));
  assert.deepEqual(counted(await counts(of), 'contacts.list').calls, 3);
  assert.deepEqual(counted(await counts(of), 'contacts.search').calls, 3);
});

test('a batch is created, upserted by a key, read and archived', async () => {
  const key = { name: 'key', label: 'Key', groupName: 'contactinformation', type: 'string', fieldType: 'text', hasUniqueValue: true };
  const all = client(await account());
  assert.equal((await all.crm.properties.coreApi.create('contacts', key)).hasUniqueValue, true);
  const batch = all.crm.contacts.batchApi;
  const inputs = ['a', 'b', 'c'].map(name => ({ properties: { key: name, firstname: name }, associations: [] }));
  const made = await batch.create({ inputs });
  assert.equal(made.results.length, 3);

  const upserted = await batch.upsert({
    inputs: ['c', 'd'].map(name => ({ id: name, idProperty: 'key', properties: { key: name, firstname: 'new' } })),
  });
  assert.deepEqual(upserted.results.map(row => row._new).sort(), [false, true]);

  const read = await batch.read({
    inputs: [{ id: 'a' }, { id: 'c' }, { id: 'x' }],
    idProperty: 'key',
    properties: ['firstname'],
    propertiesWithHistory: [],
  });
  assert.deepEqual(read.results.map(row => row.properties.firstname).sort(), ['a', 'new']);
  assert.equal(read.numErrors, 1);

  await batch.archive({ inputs: made.results.map(row => ({ id: row.id })) });
  const left = await all.crm.contacts.getAll();
  assert.deepEqual(left.map(row => row.id), upserted.results.filter(row => row._new).map(row => row.id));
});

test('a merge leaves the primary, to which the old ids lead', async () => {
  const contacts = client(await account()).crm.contacts.basicApi;
  const primary = await contacts.create({ properties: { email: 'a@example.com' } });
  const other = await contacts.create({ properties: { email: 'b@example.com', firstname: 'Bea' } });
  const merged = await contacts.merge({ primaryObjectId: primary.id, objectIdToMerge: other.id });
  assert.equal((await contacts.getById(other.id, ['firstname'])).id, merged.id);
  assert.equal((await contacts.getById(primary.id)).properties.firstname, 'Bea');
});

test('an access token that has ended is replaced by the refresh token', async () => {
  const of = await account({ kind: 'oauth' });
  const all = client(of);
  await all.crm.contacts.basicApi.getPage();
  await hubspot.control('POST', `/control/accounts/${of.portalId}/expire-token`, {});
  await assert.rejects(all.crm.contacts.basicApi.getPage(), status(401));

  const given = await all.oauth.tokensApi.create('refresh_token', undefined, undefined, of.clientId, of.clientSecret, of.refreshToken);
  assert.equal(given.refreshToken, of.refreshToken);
  assert.equal(given.expiresIn, 1800);
  all.setAccessToken(given.accessToken);
  assert.deepEqual((await all.crm.contacts.basicApi.getPage()).results, []);
  const wrong = all.oauth.tokensApi.create('refresh_token', undefined, undefined, of.clientId, of.clientSecret, 'nonsense');
  await assert.rejects(wrong, error => error.code === 400 && error.body.status === 'BAD_REFRESH_TOKEN');
});

test('an authorisation code is exchanged for tokens that say whose they are', async () => {
  const of = await account({ kind: 'oauth' });
  const { code } = await hubspot.control('POST', `/control/accounts/${of.portalId}/authorization-code`);
  const oauth = client(of).oauth;
  const given = await oauth.tokensApi.create('authorization_code', code, 'https://app.example.com/', of.clientId, of.clientSecret);
  assert.equal((await oauth.accessTokensApi.get(given.accessToken)).hubId, of.portalId);
  assert.equal((await oauth.refreshTokensApi.get(given.refreshToken)).hubId, of.portalId);
});

test('the library waits ten seconds when the burst is used up, and then succeeds', async () => {
  const of = await account({ quota: { burst: 2, daily: null, search: 5 } });
  const contacts = client(of, { numberOfApiCallRetries: 3 }).crm.contacts.basicApi;
  await contacts.create({ properties: { firstname: 'a' } });
  // The simulator's window rolls in steps of a tenth of a second: so the first call is out of it for sure after ten seconds.
  await hubspot.control('POST', '/control/clock', { advanceMs: 1_000 });
  await contacts.create({ properties: { firstname: 'b' } });
  const begin = Date.now();
  await contacts.create({ properties: { firstname: 'c' } });
  assert.ok(Date.now() - begin >= 9_900, 'it did not wait');
  const now = await counts(of);
  // The library took our 429 for the one that it knows, by its `policyName`.
  assert.deepEqual(counted(now, 'contacts.create'), { calls: 4, throttled: 1, refused: 0, disturbed: 0 });
  assert.equal(now.live, 3);
});

test('the library waits a second when searches are used up, and then succeeds', async () => {
  const of = await account({ quota: { burst: 190, daily: null, search: 1 } });
  const search = client(of, { numberOfApiCallRetries: 3 }).crm.contacts.searchApi;
  const all = { filterGroups: [], sorts: [], properties: [], limit: 1 };
  await search.doSearch(all);
  await hubspot.control('POST', '/control/clock', { advanceMs: 50 });
  await search.doSearch(all);
  // The library knows this one by its message.
  assert.deepEqual(counted(await counts(of), 'contacts.search'), { calls: 3, throttled: 1, refused: 0, disturbed: 0 });
});

test('the day\'s limit is reported and not tried again', async () => {
  const of = await account({ quota: { burst: 190, daily: 1, search: 5 } });
  const contacts = client(of, { numberOfApiCallRetries: 3 }).crm.contacts.basicApi;
  await contacts.getPage();
  await assert.rejects(contacts.getPage(), error => error.code === 429 && error.body.policyName === 'DAILY');
  assert.equal(counted(await counts(of), 'contacts.list').calls, 2);
});

test('server errors are tried again, as often as the library was told', async () => {
  const of = await account();
  const contacts = client(of, { numberOfApiCallRetries: 3 }).crm.contacts.basicApi;
  await hubspot.disturb('contacts.create', { type: 'status', status: 502 }, 2);
  await contacts.create({ properties: { firstname: 'Ann' } });
  assert.deepEqual(counted(await counts(of), 'contacts.create'), { calls: 3, throttled: 0, refused: 0, disturbed: 2 });
  assert.equal((await counts(of)).live, 1);

  await hubspot.disturb('contacts.list', { type: 'status', status: 503 }, 3);
  await assert.rejects(contacts.getPage(), status(503));
  assert.equal(counted(await counts(of), 'contacts.list').calls, 3);
});

// A target for webhooks that keeps what it is sent.
async function receiver(t) {
  const got = [];
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    got.push({ headers: request.headers, body: Buffer.concat(parts).toString('utf8') });
    response.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { got, address: `127.0.0.1:${server.address().port}` };
}

// The public address is what signatures cover; `connectTo` stands for the proxy before the receiver.
for (const [what, path, decoded] of [
  ['a plain address', '/hooks', '/hooks'],
  // The library takes the address as it is given: to decode these characters is the caller's part by HubSpot's guide.
  ['an address with encoded characters', '/hooks?next=%2Fa%3Ab%40c', '/hooks?next=/a:b@c'],
]) {
  test(`Signature.isValid takes our webhooks to ${what}, and no forged ones`, async t => {
    const { got, address } = await receiver(t);
    const url = 'https://tandem.example.com';
    const of = await account({}, { targetUrl: url + path, connectTo: address });
    // Text beyond ASCII: the signature is of the bytes that were sent.
    await client(of).crm.contacts.basicApi.create({ properties: { firstname: 'Änne 日本', email: 'ann@example.com' } });
    for (let i = 0; got.length === 0 && i < 200; i++) await new Promise(resolve => setTimeout(resolve, 25));
    assert.ok(got.length > 0, 'no webhook came');
    assert.match(got[0].body, /Änne 日本/);
    for (const { headers, body } of got) {
      const v1 = {
        signatureVersion: headers['x-hubspot-signature-version'],
        signature: headers['x-hubspot-signature'],
        clientSecret: of.clientSecret,
        requestBody: body,
      };
      const v3 = {
        signatureVersion: 'v3',
        signature: headers['x-hubspot-signature-v3'],
        clientSecret: of.clientSecret,
        requestBody: body,
        url: url + decoded,
        method: 'POST',
        timestamp: headers['x-hubspot-request-timestamp'],
      };
      for (const good of [v1, v3]) {
        assert.equal(Signature.isValid(good), true, good.signatureVersion);
        assert.equal(Signature.isValid({ ...good, requestBody: body.replace('contact', 'c0ntact') }), false);
        assert.equal(Signature.isValid({ ...good, clientSecret: 'another' }), false);
      }
      assert.equal(Signature.isValid({ ...v3, url: `${url}/elsewhere` }), false);
      assert.equal(Signature.isValid({ ...v3, timestamp: String(Number(v3.timestamp) + 1) }), false);
      // In milliseconds: the library refuses what is older than five minutes.
      assert.throws(() => Signature.isValid({ ...v3, timestamp: String(Number(v3.timestamp) - 300_001) }), /Timestamp is invalid/);
    }
  });
}
