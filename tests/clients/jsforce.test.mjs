// jsforce, the library for Node that Salesforce's own tools are built on, as it is published. Its options `loginUrl` and
// `instanceUrl` are the addresses of login host and org, which are one here.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { counted, library, simulator } from './simulator.mjs';

const jsforce = library('jsforce');
const salesforce = simulator();

const KEY = { name: 'Key__c', externalId: true, unique: true };

async function organization(more = {}) {
  const [org] = await salesforce.control('POST', '/control/salesforce/orgs', { fields: [KEY], ...more });
  return org;
}

const oauth2 = org => ({ loginUrl: salesforce.url, clientId: org.clientId, clientSecret: org.clientSecret });
// With a refresh token the library renews sessions by itself.
const connection = (org, more = {}) => new jsforce.Connection({
  oauth2: oauth2(org),
  instanceUrl: org.instanceUrl,
  accessToken: org.accessToken,
  refreshToken: org.refreshToken,
  version: '60.0',
  ...more,
});
const counts = org => salesforce.control('GET', `/control/salesforce/orgs/${org.portalId}/counts`);
const expire = org => salesforce.control('POST', `/control/salesforce/orgs/${org.portalId}/expire-token`, {});
const code = wanted => error => {
  assert.equal(error.errorCode, wanted, String(error));
  return true;
};

test('a contact is created, read, changed, found and deleted', async () => {
  const contacts = connection(await organization()).sobject('Contact');
  const made = await contacts.create({ LastName: "O'Neil", FirstName: 'Ann', Email: 'Ann@Example.com', Phone: '123' });
  assert.equal(made.success, true);
  assert.equal((await contacts.update({ Id: made.id, Title: 'Boss', Phone: null })).success, true);
  const read = await contacts.retrieve(made.id);
  assert.deepEqual([read.Name, read.Email, read.Title, read.Phone], ["Ann O'Neil", 'ann@example.com', 'Boss', null]);

  const since = jsforce.SfDate.toDateTimeLiteral(new Date(Date.now() - 3_600_000));
  const wanted = { LastName: { $like: "O'N%" }, CreatedDate: { $gte: since } };
  const found = await contacts.find(wanted, 'Id, Name').sort({ LastName: 1, Id: -1 }).limit(5);
  assert.deepEqual(found.map(one => one.Id), [made.id]);

  assert.equal((await contacts.destroy(made.id)).success, true);
  await assert.rejects(contacts.retrieve(made.id), code('ENTITY_IS_DELETED'));
});

test('an upsert by an external id creates once and changes afterwards', async () => {
  const org = await organization();
  const contacts = connection(org).sobject('Contact');
  // The library puts the key into the path as it is, so one with a slash would be beyond it, here and there.
  const first = await contacts.upsert({ Key__c: 'k 2 ü', LastName: 'Two' }, 'Key__c');
  const second = await contacts.upsert({ Key__c: 'k 2 ü', Title: 'x' }, 'Key__c');
  assert.deepEqual([first.created, second.created, second.id], [true, false, first.id]);
  const many = await contacts.upsert([{ Key__c: 'k 2 ü', Title: 'y' }, { Key__c: 'k3', LastName: 'Three' }], 'Key__c');
  assert.deepEqual(many.map(one => [one.success, one.created]), [[true, false], [true, true]]);
  assert.equal((await contacts.retrieve(first.id)).Title, 'y');
  assert.equal((await counts(org)).operations['salesforce.collection-upsert'].calls, 1);
});

test('more records than a collection holds are written in several, with a result for each', async () => {
  const org = await organization();
  const contacts = connection(org).sobject('Contact');
  const records = Array.from({ length: 450 }, (_, i) => (i === 7 ? { FirstName: 'Nameless' } : { LastName: `Doe ${i}` }));
  const made = await contacts.create(records, { allowRecursive: true });
  assert.equal(made.length, 450);
  assert.deepEqual(made.flatMap((one, i) => (one.success ? [] : [i])), [7]);
  assert.match(JSON.stringify(made[7].errors), /REQUIRED_FIELD_MISSING/);
  assert.equal((await counts(org)).operations['salesforce.collection-create'].calls, 3);

  const some = made.slice(0, 3).map(one => one.id);
  assert.ok((await contacts.update(some.map(Id => ({ Id, Title: 'z' })))).every(one => one.success));
  assert.equal(await contacts.count({ Title: 'z' }), 3);
  assert.deepEqual((await contacts.retrieve(some)).map(one => one.Title), ['z', 'z', 'z']);
  assert.ok((await contacts.destroy(some)).every(one => one.success));
  assert.equal(await contacts.count(), 446);
});

test('a query is followed through all its pages, and beyond the recycle bin on request', async () => {
  const org = await organization();
  const conn = connection(org);
  const records = Array.from({ length: 453 }, (_, i) => ({ LastName: `Doe ${i}` }));
  await salesforce.control('POST', `/control/salesforce/orgs/${org.portalId}/contacts/import`, { records, quiet: true });
  const headers = { 'Sforce-Query-Options': 'batchSize=200' };
  const all = await conn.query('SELECT Id, LastName FROM Contact', { autoFetch: true, maxFetch: 5_000, headers });
  assert.equal(all.totalSize, 453);
  assert.deepEqual(new Set(all.records.map(one => one.LastName)), new Set(records.map(one => one.LastName)));
  const { operations } = await counts(org);
  assert.deepEqual([operations['salesforce.query'].calls, operations['salesforce.query-more'].calls], [1, 2]);

  const page = await conn.query('SELECT Id FROM Contact', { headers });
  assert.equal(page.done, false);
  const next = await conn.queryMore(page.nextRecordsUrl, { headers });
  assert.equal(new Set([...page.records, ...next.records].map(one => one.Id)).size, 400);

  await conn.sobject('Contact').destroy(all.records[0].Id);
  assert.equal((await conn.query('SELECT Id FROM Contact WHERE IsDeleted = true')).totalSize, 0);
  assert.equal((await conn.query('SELECT Id FROM Contact WHERE IsDeleted = true').scanAll(true)).totalSize, 1);
});

test('what was updated and deleted in a span is told', async () => {
  const contacts = connection(await organization()).sobject('Contact');
  const kept = await contacts.create({ LastName: 'Kept' });
  const gone = await contacts.create({ LastName: 'Gone' });
  await contacts.destroy(gone.id);
  // Nothing of the minute under way is told.
  const { now } = await salesforce.control('POST', '/control/clock', { advanceMs: 60_000 });
  const [start, end] = [new Date(now - 180_000), new Date(now + 60_000)].map(moment => moment.toISOString());
  assert.deepEqual((await contacts.updated(start, end)).ids, [kept.id]);
  assert.deepEqual((await contacts.deleted(start, end)).deletedRecords.map(one => one.id), [gone.id]);
});

test('fields, objects, versions, limits and the caller are described', async () => {
  const org = await organization({ limits: { daily: 1_000 } });
  const conn = connection(org);
  const { fields } = await conn.sobject('Contact').describe();
  assert.equal(fields.find(field => field.name === 'Key__c').externalId, true);
  assert.ok((await conn.describeGlobal()).sobjects.some(one => one.name === 'Contact'));
  assert.ok((await conn.request('/services/data')).some(one => one.version === '60.0'));
  const identity = await conn.identity();
  assert.equal(identity.username, org.username);
  assert.equal((await conn.limits()).DailyApiRequests.Max, 1_000);
  // From the header of each answer.
  assert.equal(conn.limitInfo.apiUsage.limit, 1_000);
  assert.ok(conn.limitInfo.apiUsage.used >= 4);
});

test('refusals arrive with Salesforce\'s own codes', async () => {
  salesforce.allow(/there is no field Foo__c|a query is refused with/);
  const conn = connection(await organization());
  const contacts = conn.sobject('Contact');
  await contacts.create({ LastName: 'One', Key__c: 'k' });
  await assert.rejects(contacts.create({ FirstName: 'x' }), code('REQUIRED_FIELD_MISSING'));
  await assert.rejects(contacts.create({ LastName: 'Two', Key__c: 'k' }), code('DUPLICATE_VALUE'));
  await assert.rejects(contacts.create({ LastName: 'Two', Foo__c: 'k' }), code('INVALID_FIELD'));
  await assert.rejects(conn.query('SELECT Foo FROM Contact'), code('INVALID_FIELD'));
  await assert.rejects(conn.query('SELECT FROM'), code('MALFORMED_QUERY'));
});

test('passwords and the client\'s own credentials open a session', async () => {
  const org = await organization();
  const byPassword = new jsforce.Connection({ oauth2: oauth2(org), version: '60.0' });
  const user = await byPassword.loginByOAuth2(org.username, org.password);
  assert.equal(user.organizationId, org.organizationId);
  assert.equal(await byPassword.sobject('Contact').count(), 0);
  const byClient = new jsforce.Connection({ oauth2: oauth2(org), instanceUrl: org.instanceUrl, version: '60.0' });
  assert.equal((await byClient.authorize({ grant_type: 'client_credentials' })).organizationId, org.organizationId);
  assert.equal(await byClient.sobject('Contact').count(), 0);
  await assert.rejects(new jsforce.Connection({ oauth2: oauth2(org) }).loginByOAuth2(org.username, 'wrong'), /authentication failure/);
});

test('a session that ends in the middle is renewed by the library and the call made again', async () => {
  const org = await organization();
  const conn = connection(org);
  let renewed = 0;
  conn.on('refresh', () => renewed++);
  await conn.sobject('Contact').create({ LastName: 'One' });
  await expire(org);
  // Of calls that find out together only one renews.
  const both = await Promise.all([conn.sobject('Contact').create({ LastName: 'Two' }), conn.query('SELECT COUNT() FROM Contact')]);
  assert.equal(both[0].success, true);
  assert.equal(renewed, 1);
  assert.equal(await conn.sobject('Contact').count(), 2);
  // Without a refresh token it is the caller's matter.
  const bare = new jsforce.Connection({ instanceUrl: org.instanceUrl, accessToken: org.accessToken, version: '60.0' });
  await assert.rejects(bare.sobject('Contact').count(), code('INVALID_SESSION_ID'));
  const { accessToken } = conn;
  await conn.logout();
  const after = new jsforce.Connection({ instanceUrl: org.instanceUrl, accessToken, version: '60.0' });
  await assert.rejects(after.sobject('Contact').count(), code('INVALID_SESSION_ID'));
});

test('a refresh token that has been revoked opens nothing', async () => {
  const org = await organization();
  const conn = connection(org);
  await conn.sobject('Contact').count();
  await conn.logout(true);
  await assert.rejects(connection(org).oauth2.refreshToken(org.refreshToken), /expired access\/refresh token/);
});

test('reads that fail are tried again by the library, and writes are not', async () => {
  const org = await organization();
  const conn = connection(org);
  const { id } = await conn.sobject('Contact').create({ LastName: 'One' });
  await salesforce.disturb('salesforce.read', { type: 'status', status: 503 }, 2);
  assert.equal((await conn.sobject('Contact').retrieve(id)).LastName, 'One');
  assert.equal((await counts(org)).operations['salesforce.read'].calls, 3);

  await salesforce.disturb('salesforce.query', { type: 'resetBefore' });
  assert.equal(await conn.sobject('Contact').count(), 1);
  assert.equal((await counts(org)).operations['salesforce.query'].calls, 2);

  await salesforce.disturb('salesforce.create', { type: 'status', status: 503 });
  await assert.rejects(conn.sobject('Contact').create({ LastName: 'Two' }));
  assert.deepEqual(counted(await counts(org), 'salesforce.create'), { calls: 2, throttled: 0, refused: 0, disturbed: 1 });
});

test('the limit of the day is reported and not tried again', async () => {
  const org = await organization({ limits: { daily: 2 } });
  const contacts = connection(org).sobject('Contact');
  await contacts.count();
  await contacts.count();
  await assert.rejects(contacts.count(), code('REQUEST_LIMIT_EXCEEDED'));
  assert.deepEqual(counted(await counts(org), 'salesforce.query'), { calls: 3, throttled: 1, refused: 0, disturbed: 0 });
});

test('a row that somebody holds is refused to the caller', async () => {
  const org = await organization();
  const contacts = connection(org).sobject('Contact');
  const { id } = await contacts.create({ LastName: 'One' });
  await salesforce.control('POST', `/control/salesforce/orgs/${org.portalId}/contacts/${id}/lock`, { ms: 60_000 });
  await assert.rejects(contacts.update({ Id: id, Title: 'x' }), code('UNABLE_TO_LOCK_ROW'));
});
