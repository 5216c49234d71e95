"""HubSpot's own library for Python, hubspot-api-client, as it is published. Its option `host` is the address of the API."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hubspot import HubSpot
from hubspot.crm.contacts import ApiException
from hubspot.crm.contacts.exceptions import NotFoundException, ServiceException, UnauthorizedException
from hubspot.exceptions import InvalidSignatureTimestampError
from hubspot.oauth import ApiException as OauthException
from hubspot.utils.signature import Signature
from urllib3.util.retry import Retry

from simulator import SimulatorTest, counted

# A search sees every write at once, so that no test waits for the index.
NO_LAG = {"indexLagMinMs": 0, "indexLagMaxMs": 0}


def retry(**more):
    """As the library's own documentation tells users to: it hands this to its HTTP client. Writes are repeated as well."""
    return Retry(**{"total": 3, "status_forcelist": (429, 500, 502, 503, 504), "allowed_methods": None, **more})


class HubSpotPython(SimulatorTest):
    def account(self, webhooks=None, **more):
        app = self.control("POST", "/control/apps", {"webhooks": webhooks or {}})
        made = self.control("POST", "/control/accounts", {"appId": app["appId"], "settings": NO_LAG, **more})
        return {**app, **made["accounts"][0]}

    def client(self, of, **more):
        return HubSpot(access_token=of["accessToken"], host=self.url, **more)

    def counts(self, of):
        return self.control("GET", f"/control/accounts/{of['portalId']}/counts")

    def test_a_contact_is_created_read_changed_found_by_its_address_and_archived(self):
        contacts = self.client(self.account()).crm.contacts.basic_api
        made = contacts.create({"properties": {"email": "Ann@Example.com", "firstname": "Ann"}})
        self.assertEqual(made.properties["email"], "ann@example.com")
        self.assertIsNotNone(made.created_at.tzinfo)

        changed = contacts.update(made.id, {"properties": {"firstname": "Änne", "phone": ""}})
        self.assertEqual(changed.properties["firstname"], "Änne")
        read = contacts.get_by_id(
            "ann@example.com",
            id_property="email",
            properties=["firstname", "phone"],
            properties_with_history=["firstname"],
        )
        self.assertEqual((read.id, read.properties["firstname"], read.properties["phone"]), (made.id, "Änne", None))
        self.assertEqual([old.value for old in read.properties_with_history["firstname"]], ["Änne", "Ann"])

        contacts.archive(made.id)
        with self.assertRaises(NotFoundException):
            contacts.get_by_id(made.id)
        self.assertTrue(contacts.get_by_id(made.id, archived=True).archived)

    def test_refusals_arrive_with_their_status_and_what_is_wrong(self):
        contacts = self.client(self.account()).crm.contacts.basic_api
        first = contacts.create({"properties": {"email": "ann@example.com"}})
        with self.assertRaises(ApiException) as taken:
            contacts.create({"properties": {"email": "ann@example.com"}})
        self.assertEqual(taken.exception.status, 409)
        self.assertIn(f"Existing ID: {first.id}", taken.exception.body)
        with self.assertRaises(ApiException) as unknown:
            contacts.update(first.id, {"properties": {"colour": "red"}})
        self.assertEqual(unknown.exception.status, 400)
        self.assertIn("PROPERTY_DOESNT_EXIST", unknown.exception.body)

    def test_all_pages_of_a_list_and_of_a_search_give_each_contact_once(self):
        of = self.account()
        records = [{"email": f"p{i}@example.com", "lastname": ("Even", "Odd")[i % 2]} for i in range(250)]
        self.control("POST", f"/control/accounts/{of['portalId']}/contacts/import", {"records": records, "quiet": True})
        contacts = self.client(of).crm.contacts
        listed = contacts.get_all(properties=["email"])
        self.assertEqual(sorted(one.properties["email"] for one in listed), sorted(one["email"] for one in records))

        found, after = [], None
        while True:
            page = contacts.search_api.do_search(
                {
                    "filterGroups": [{"filters": [{"propertyName": "lastname", "operator": "EQ", "value": "Odd"}]}],
                    "sorts": ["hs_object_id"],
                    "properties": ["email", "lastname"],
                    "limit": 50,
                    **({"after": after} if after else {}),
                }
            )
            self.assertEqual(page.total, 125)
            found += page.results
            if not page.paging:
                break
            after = page.paging.next.after
        self.assertEqual((len(found), len({one.id for one in found})), (125, 125))
        self.assertEqual({one.properties["lastname"] for one in found}, {"Odd"})
        self.assertEqual(counted(self.counts(of), "contacts.list")["calls"], 3)
        self.assertEqual(counted(self.counts(of), "contacts.search")["calls"], 3)

    def test_a_batch_is_created_upserted_by_a_key_read_and_archived(self):
        client = self.client(self.account())
        key = {"name": "key", "label": "Key", "groupName": "contactinformation", "type": "string", "fieldType": "text"}
        self.assertTrue(client.crm.properties.core_api.create("contacts", {**key, "hasUniqueValue": True}).has_unique_value)
        batch = client.crm.contacts.batch_api
        inputs = [{"properties": {"key": name, "firstname": name}, "associations": []} for name in "abc"]
        made = batch.create({"inputs": inputs})
        self.assertEqual(len(made.results), 3)
        rows = [{"id": name, "idProperty": "key", "properties": {"key": name, "firstname": "new"}} for name in "cd"]
        upserted = batch.upsert({"inputs": rows})
        self.assertEqual(sorted(row.new for row in upserted.results), [False, True])
        wanted = {"idProperty": "key", "properties": ["firstname"], "propertiesWithHistory": []}
        read = batch.read({"inputs": [{"id": "a"}, {"id": "c"}, {"id": "x"}], **wanted})
        self.assertEqual(sorted(row.properties["firstname"] for row in read.results), ["a", "new"])
        self.assertEqual(read.num_errors, 1)
        batch.archive({"inputs": [{"id": row.id} for row in made.results]})
        left = client.crm.contacts.get_all()
        self.assertEqual([row.id for row in left], [row.id for row in upserted.results if row.new])

    def test_an_access_token_that_has_ended_is_replaced_by_the_refresh_token(self):
        of = self.account(kind="oauth")
        client = self.client(of)
        client.crm.contacts.basic_api.get_page()
        self.control("POST", f"/control/accounts/{of['portalId']}/expire-token", {})
        with self.assertRaises(UnauthorizedException):
            client.crm.contacts.basic_api.get_page()
        ours = {"client_id": of["clientId"], "client_secret": of["clientSecret"]}
        given = client.oauth.tokens_api.create(grant_type="refresh_token", refresh_token=of["refreshToken"], **ours)
        self.assertEqual((given.refresh_token, given.expires_in), (of["refreshToken"], 1800))
        client.access_token = given.access_token
        self.assertEqual(client.crm.contacts.basic_api.get_page().results, [])
        self.assertEqual(client.oauth.access_tokens_api.get(given.access_token).hub_id, of["portalId"])
        with self.assertRaises(OauthException) as wrong:
            client.oauth.tokens_api.create(grant_type="refresh_token", refresh_token="nonsense", **ours)
        self.assertEqual(wrong.exception.status, 400)
        self.assertIn("BAD_REFRESH_TOKEN", wrong.exception.body)

    def test_an_exhausted_burst_is_tried_again_until_the_window_has_rolled(self):
        of = self.account(quota={"burst": 2, "daily": None, "search": 5})
        # At once and after 1.5, 3 and 6 seconds: the sum is more than the ten of the window.
        contacts = self.client(of, retry=retry(total=4, backoff_factor=0.75)).crm.contacts.basic_api
        for name in "ab":
            contacts.create({"properties": {"firstname": name}})
        begin = time.monotonic()
        contacts.create({"properties": {"firstname": "c"}})
        self.assertGreater(time.monotonic() - begin, 9)
        counts = self.counts(of)
        self.assertEqual(counts["live"], 3)
        self.assertEqual(counted(counts, "contacts.create"), {"calls": 7, "throttled": 4, "refused": 0, "disturbed": 0})

    def test_server_errors_and_cut_connections_are_tried_again_as_often_as_the_library_was_told(self):
        of = self.account()
        contacts = self.client(of, retry=retry()).crm.contacts.basic_api
        self.disturb("contacts.create", {"type": "status", "status": 502}, 2)
        contacts.create({"properties": {"firstname": "Ann"}})
        self.assertEqual(counted(self.counts(of), "contacts.create"), {"calls": 3, "throttled": 0, "refused": 0, "disturbed": 2})
        self.disturb("contacts.list", {"type": "resetBefore"})
        self.assertEqual(len(contacts.get_page().results), 1)
        # Without the option an error is the caller's.
        self.disturb("contacts.read", {"type": "status", "status": 503})
        with self.assertRaises(ServiceException):
            self.client(of).crm.contacts.basic_api.get_by_id("1")
        self.assertEqual(counted(self.counts(of), "contacts.read")["calls"], 1)

    def test_retry_after_is_obeyed(self):
        of = self.account()
        self.disturb("contacts.list", {"type": "status", "status": 429, "retryAfter": 2})
        begin = time.monotonic()
        self.client(of, retry=retry()).crm.contacts.basic_api.get_page()
        self.assertGreaterEqual(time.monotonic() - begin, 2)
        self.assertEqual(counted(self.counts(of), "contacts.list")["calls"], 2)

    def test_signature_is_valid_takes_our_webhooks_and_no_forged_ones(self):
        got = []

        class Target(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                got.append((self.headers, body.decode()))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Target)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # What signatures cover is the public address; `connectTo` stands for the proxy before the receiver.
        url = "https://tandem.example.com/hooks"
        of = self.account({"targetUrl": url, "connectTo": f"127.0.0.1:{server.server_port}"})
        self.client(of).crm.contacts.basic_api.create({"properties": {"firstname": "Änne 日本"}})
        until = time.monotonic() + 5
        while not got and time.monotonic() < until:
            time.sleep(0.02)
        self.assertTrue(got, "no webhook came")
        headers, body = got[0]
        self.assertIn("Änne 日本", body)
        stamp = headers["X-HubSpot-Request-Timestamp"]
        v1 = {"signature_version": "v1", "signature": headers["X-HubSpot-Signature"]}
        v3 = {"signature_version": "v3", "signature": headers["X-HubSpot-Signature-v3"], "http_uri": url, "timestamp": stamp}
        secret = of["clientSecret"]
        for good in (v1, v3):
            self.assertTrue(Signature.is_valid(**good, client_secret=secret, request_body=body))
            self.assertFalse(Signature.is_valid(**good, client_secret=secret, request_body=body + " "))
            self.assertFalse(Signature.is_valid(**good, client_secret="another", request_body=body))
        late = {**v3, "timestamp": str(int(stamp) - 301_000)}
        with self.assertRaises(InvalidSignatureTimestampError):
            Signature.is_valid(**late, client_secret=secret, request_body=body)
