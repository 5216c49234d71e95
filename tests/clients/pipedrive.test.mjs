// Pipedrive's own library for Node, pipedrive, as it is published. Its options `basePath` and, for OAuth, `host` are the
// addresses of the API and of the token endpoint. It never tries again by itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { library, simulator } from './simulator.mjs';

const { v1, v2 } = library('pipedrive');
const pipedrive = simulator();

// Room for a whole test inside two seconds, and searches that see every write at once.
const ROOM = {
  quota: { tokenBurst: 1_000, oauthBurst: 1_000, searchBurst: 1_000, daily: 30_000 },
  settings: { indexLagMinMs: 0, indexLagMaxMs: 0 },
};

async function company(more = {}) {
  const fields = [{ field_name: 'Key', field_type: 'varchar' }];
  const { accounts } = await pipedrive.control('POST', '/control/pipedrive/accounts', { fields, ...ROOM, ...more });
  return accounts[0];
}

const second = of => new v2.Configuration({ apiKey: of.apiToken, basePath: `${pipedrive.url}/api/v2` });
const first = of => new v1.Configuration({ apiKey: of.apiToken, basePath: `${pipedrive.url}/api/v1` });
const persons = of => new v2.PersonsApi(second(of));
const counts = of => pipedrive.control('GET', `/control/pipedrive/accounts/${of.companyId}/counts`);
// The library throws the body of a refusal, and nothing of its status.
const refused = wanted => error => {
  assert.equal(error.success, false, String(error));
  assert.match(error.error, wanted);
  return true;
};

test('a person is created, read, changed, found by a custom field and deleted', async () => {
  const of = await company();
  const key = of.fields.Key;
  const api = persons(of);
  const made = await api.addPerson({
    AddPersonRequest: {
      name: 'Ada King',
      emails: [{ value: 'ada@example.com', primary: true, label: 'work' }],
      phones: [{ value: '123' }],
      custom_fields: { [key]: 'k1' },
    },
  });
  const { id } = made.data;
  assert.equal(made.data.custom_fields[key], 'k1');
  assert.deepEqual(made.data.phones, [{ value: '123', primary: true, label: 'work' }]);

  const changed = await api.updatePerson({ id, UpdatePersonRequest: { name: 'Ada Byron', phones: [], custom_fields: { [key]: 'k2' } } });
  assert.equal(changed.data.name, 'Ada Byron');
  const read = await api.getPerson({ id, custom_fields: key, include_fields: 'notes_count' });
  assert.deepEqual([read.data.name, read.data.phones, read.data.custom_fields[key]], ['Ada Byron', [], 'k2']);

  const found = await api.searchPersons({ term: 'k2', fields: 'custom_fields', exact_match: true });
  assert.deepEqual(found.data.items.map(row => row.item.id), [id]);
  const none = await api.searchPersons({ term: 'k1', fields: 'custom_fields', exact_match: true });
  assert.deepEqual(none.data.items, []);

  assert.deepEqual((await api.deletePerson({ id })).data, { id });
  await assert.rejects(api.updatePerson({ id, UpdatePersonRequest: { name: 'x' } }), refused(/not found/i));
});

test('a list and a search are followed through all their pages', async () => {
  const of = await company();
  const names = Array.from({ length: 25 }, (_, i) => `Person ${i}`);
  for (const name of names) await pipedrive.control('POST', `/control/pipedrive/accounts/${of.companyId}/persons`, { members: { name } });
  const walk = async page => {
    const rows = [];
    let cursor;
    do {
      const answer = await page(cursor);
      rows.push(...(answer.data.items?.map(row => row.item) ?? answer.data));
      cursor = answer.additional_data?.next_cursor;
    } while (cursor);
    return rows.map(row => row.name);
  };
  const api = persons(of);
  const changed = { sort_by: 'update_time', sort_direction: 'asc', updated_since: '2020-01-01T00:00:00Z' };
  const listed = await walk(cursor => api.getPersons({ limit: 10, cursor, ...changed }));
  assert.deepEqual(listed.toSorted(), names.toSorted());
  const found = await walk(cursor => api.searchPersons({ term: 'Person', fields: 'name', limit: 10, cursor }));
  assert.deepEqual(found.toSorted(), names.toSorted());
  const { operations } = await counts(of);
  assert.deepEqual([operations['persons.list'].calls, operations['persons.search'].calls], [3, 3]);
});

test('a field is made, given options, listed and removed', async () => {
  const of = await company();
  const fields = new v2.PersonFieldsApi(second(of));
  const made = await fields.addPersonField({
    AddPersonFieldRequest: { field_name: 'Colour', field_type: 'enum', options: [{ label: 'Red' }] },
  });
  const code = made.data.field_code;
  const read = await fields.getPersonField({ field_code: code });
  assert.deepEqual(read.data.options.map(option => option.label), ['Red']);
  const api = persons(of);
  const red = read.data.options[0].id;
  const person = await api.addPerson({ AddPersonRequest: { name: 'Ann', custom_fields: { [code]: red } } });
  assert.equal(person.data.custom_fields[code], red);
  const wrong = api.addPerson({ AddPersonRequest: { name: 'Bob', custom_fields: { [code]: red + 1_000 } } });
  await assert.rejects(wrong, refused(/custom_fields/));
  assert.ok((await fields.getPersonFields({ limit: 500 })).data.some(field => field.field_code === code));
  await fields.deletePersonField({ field_code: code });
  assert.ok(!(await fields.getPersonFields({ limit: 500 })).data.some(field => field.field_code === code));
});

test('the older interface tells the caller, what changed lately, and merges', async () => {
  const of = await company();
  assert.equal((await new v1.UsersApi(first(of)).getCurrentUser()).data.company_id, of.companyId);
  const api = persons(of);
  const [a, b] = [await api.addPerson({ AddPersonRequest: { name: 'A' } }), await api.addPerson({ AddPersonRequest: { name: 'B' } })];
  const merged = await new v1.PersonsApi(first(of)).mergePersons({ id: b.data.id, MergePersonsRequest: { merge_with_id: a.data.id } });
  assert.equal(merged.data.id, a.data.id);
  assert.deepEqual((await api.getPersons({})).data.map(person => person.id), [a.data.id]);
  const recent = await new v1.RecentsApi(first(of)).getRecents({ since_timestamp: '2020-01-01 00:00:00', items: 'person' });
  assert.ok(recent.data.some(row => row.id === a.data.id));
});

test('webhooks are subscribed to, listed and removed', async () => {
  const of = await company();
  const hooks = new v1.WebhooksApi(first(of));
  const made = await hooks.addWebhook({
    AddWebhookRequest: {
      subscription_url: 'https://tandem.example.com/hook',
      event_action: '*',
      event_object: 'person',
      name: 'Tandem',
      version: '2.0',
      http_auth_user: 'a',
      http_auth_password: 'b',
    },
  });
  assert.deepEqual((await hooks.getWebhooks()).data.map(hook => hook.id), [made.data.id]);
  await hooks.deleteWebhook({ id: made.data.id });
  assert.deepEqual((await hooks.getWebhooks()).data, []);
});

const oauth = of => new v2.OAuth2Configuration({
  clientId: of.clientId,
  clientSecret: of.clientSecret,
  redirectUri: 'https://app.example.com/',
  host: pipedrive.url,
});
// The library goes to the address that the token endpoint told, with a token that it renews when its time is over.
const byOauth = given => new v2.PersonsApi(new v2.Configuration({ accessToken: given.getAccessToken, basePath: given.basePath }));

test('an access token is refreshed by the library when its time is over', async () => {
  const of = await company({ settings: { ...ROOM.settings, tokenSeconds: 2, rotateRefreshTokens: true } });
  const given = oauth(of);
  const told = [];
  given.onTokenUpdate = token => told.push(token.refresh_token);
  given.updateToken({ refresh_token: of.refreshToken, access_token: of.accessToken, expires_in: of.expiresIn, api_domain: of.apiDomain });
  const api = byOauth(given);
  await api.addPerson({ AddPersonRequest: { name: 'Ada' } });
  await new Promise(resolve => setTimeout(resolve, 2_100));
  assert.equal((await api.getPersons({})).data.length, 1);
  assert.notEqual(given.accessToken, of.accessToken);
  // Each refresh gives a new refresh token here, and the library keeps the newest.
  assert.notEqual(given.refreshToken, of.refreshToken);
  assert.deepEqual([...new Set(told)], [of.refreshToken, given.refreshToken]);
  assert.equal(given.basePath, `${of.apiDomain}/api/v2`);
});

test('an authorisation code gives tokens, and revoking ends them', async () => {
  const of = await company();
  const given = oauth(of);
  const { code } = await pipedrive.control('POST', `/control/pipedrive/accounts/${of.companyId}/authorization-code`, {});
  await given.authorize(code);
  assert.deepEqual((await byOauth(given).getPersons({})).data, []);
  await assert.rejects(given.authorize(code), refused(/./));
  // Not its 'access_token': the library encodes that one twice, and by RFC 7009 a token that nobody knows is answered as if
  // it had been revoked.
  await given.revokeToken('refresh_token');
  await assert.rejects(byOauth(given).getPersons({}), refused(/unauthorized|invalid|expired/i));
});

test('a token that ended before its time is the caller\'s matter: one refresh, and the call works', async () => {
  const of = await company();
  const given = oauth(of);
  given.updateToken({ refresh_token: of.refreshToken, access_token: of.accessToken, expires_in: of.expiresIn, api_domain: of.apiDomain });
  await pipedrive.control('POST', `/control/pipedrive/accounts/${of.companyId}/expire-token`, {});
  await assert.rejects(byOauth(given).getPersons({}), refused(/unauthorized|invalid|expired/i));
  assert.equal(given.accessToken, of.accessToken);
  await given.tokenRefresh();
  assert.deepEqual((await byOauth(given).getPersons({})).data, []);
  const { calls, refused: turned } = (await counts(of)).operations['persons.list'];
  assert.deepEqual([calls, turned], [1, 0]);
});

test('a refusal for the limit and a server error reach the caller at once, and nothing is tried again', async () => {
  const of = await company({ quota: { ...ROOM.quota, tokenBurst: 2 } });
  const api = persons(of);
  await api.getPersons({});
  await api.getPersons({});
  await assert.rejects(api.getPersons({}), refused(/rate limit|too many/i));
  const { calls, throttled } = (await counts(of)).operations['persons.list'];
  assert.deepEqual([calls, throttled], [3, 1]);

  await pipedrive.disturb('persons.create', { type: 'status', status: 503 });
  await pipedrive.control('POST', '/control/clock', { advanceMs: 3_000 });
  await assert.rejects(api.addPerson({ AddPersonRequest: { name: 'Ada' } }));
  assert.equal((await counts(of)).operations['persons.create'].calls, 1);
  assert.deepEqual((await api.getPersons({})).data, []);
});
