"""simple-salesforce for Python, as it is published. It speaks HTTPS only, to `login` or a domain below salesforce.com and to
the instance that it is told, so the simulator is asked over TLS, with its own authority in the session that the library takes."""

import datetime
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce, format_soql
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceExpiredSession,
    SalesforceGeneralError,
    SalesforceMalformedRequest,
    SalesforceRefusedRequest,
    SalesforceResourceNotFound,
)
from urllib3.util.retry import Retry

from simulator import SimulatorTest, counted

LOGIN_HOSTS = ("https://login.salesforce.com", "https://acme.my.salesforce.com")


class LoginHost(HTTPAdapter):
    """The way to a login host: its name is fixed in the library, so its address is set where requests lets one set it."""

    def __init__(self, address):
        super().__init__()
        self.address = address

    def send(self, request, **more):
        request.url = self.address + request.path_url
        return super().send(request, **more)


class SimpleSalesforce(SimulatorTest):
    def session(self, retries=0):
        session = requests.Session()
        # No proxy of the machine, and no other authorities.
        session.trust_env = False
        session.verify = self.authority
        session.mount(self.tls, HTTPAdapter(max_retries=retries))
        for host in LOGIN_HOSTS:
            session.mount(host, LoginHost(self.tls))
        return session

    def organization(self, **more):
        key = {"name": "Key__c", "externalId": True, "unique": True}
        return self.control("POST", "/control/salesforce/orgs", {"instance": self.tls, "fields": [key], **more})[0]

    def direct(self, org, **more):
        return Salesforce(instance_url=self.tls, session_id=org["accessToken"], version="60.0", session=self.session(**more))

    def logged_in(self, org):
        return Salesforce(
            username=org["username"],
            password=org["password"],
            consumer_key=org["clientId"],
            consumer_secret=org["clientSecret"],
            version="60.0",
            session=self.session(),
        )

    def of(self, org, path=""):
        return f"/control/salesforce/orgs/{org['portalId']}{path}"

    def counts(self, org):
        return self.control("GET", self.of(org, "/counts"))

    def test_a_contact_is_created_read_changed_and_deleted(self):
        contacts = self.direct(self.organization()).Contact
        made = contacts.create({"LastName": "O'Neil", "FirstName": "Ann", "Email": "Ann@Example.com", "Phone": "1"})
        self.assertTrue(made["success"])
        self.assertEqual(contacts.update(made["id"], {"Title": "Boss", "Phone": None}), 204)
        read = contacts.get(made["id"])
        self.assertEqual([read[name] for name in ("Name", "Email", "Title", "Phone")], ["Ann O'Neil", "ann@example.com", "Boss", None])
        self.assertEqual(contacts.delete(made["id"]), 204)
        with self.assertRaises(SalesforceResourceNotFound):
            contacts.get(made["id"])

    def test_an_upsert_by_an_external_id_creates_once_and_changes_afterwards(self):
        contacts = self.direct(self.organization()).Contact
        self.assertEqual(contacts.upsert("Key__c/k-2", {"LastName": "Two"}), 201)
        self.assertEqual(contacts.upsert("Key__c/k-2", {"Title": "x"}), 200)
        read = contacts.get_by_custom_id("Key__c", "k-2")
        self.assertEqual((read["LastName"], read["Title"]), ("Two", "x"))

    def test_a_query_is_followed_through_all_its_pages_and_beyond_the_recycle_bin_on_request(self):
        org = self.organization()
        records = [{"LastName": f"Doe {i}"} for i in range(4500)]
        self.control("POST", self.of(org, "/contacts/import"), {"records": records, "quiet": True})
        api = self.direct(org)
        result = api.query_all("SELECT Id, LastName FROM Contact")
        self.assertEqual((result["totalSize"], result["done"]), (4500, True))
        self.assertEqual({one["LastName"] for one in result["records"]}, {one["LastName"] for one in records})
        operations = self.counts(org)["operations"]
        self.assertEqual([operations[name]["calls"] for name in ("salesforce.query", "salesforce.query-more")], [1, 2])
        self.assertEqual(len({one["Id"] for one in api.query_all_iter("SELECT Id FROM Contact")}), 4500)

        api.Contact.delete(result["records"][0]["Id"])
        gone = "SELECT Id FROM Contact WHERE IsDeleted = true"
        self.assertEqual(api.query_all(gone)["totalSize"], 0)
        self.assertEqual(api.query_all(gone, include_deleted=True)["totalSize"], 1)

    def test_values_in_queries_are_quoted_by_the_library(self):
        api = self.direct(self.organization())
        for name in ("O'Neil", 'back\\slash "quoted"', "tab\tand ünïcode"):
            made = api.Contact.create({"LastName": name})
            query = format_soql("SELECT Id FROM Contact WHERE LastName = {}", name)
            self.assertEqual([one["Id"] for one in api.query(query)["records"]], [made["id"]], name)

    def test_what_was_updated_and_deleted_in_a_span_is_told(self):
        contacts = self.direct(self.organization()).Contact
        kept, gone = contacts.create({"LastName": "Kept"})["id"], contacts.create({"LastName": "Gone"})["id"]
        contacts.delete(gone)
        # Nothing of the minute under way is told.
        now = self.control("POST", "/control/clock", {"advanceMs": 60_000})["now"]
        moment = datetime.datetime.fromtimestamp(now / 1000, datetime.timezone.utc)
        span = moment - datetime.timedelta(minutes=3), moment + datetime.timedelta(minutes=1)
        self.assertEqual(contacts.updated(*span)["ids"], [kept])
        self.assertEqual([one["id"] for one in contacts.deleted(*span)["deletedRecords"]], [gone])

    def test_fields_objects_limits_and_the_caller_are_described(self):
        org = self.organization(limits={"daily": 1000})
        api = self.direct(org)
        fields = {field["name"]: field for field in api.Contact.describe()["fields"]}
        self.assertTrue(fields["Key__c"]["externalId"])
        self.assertIn("Contact", [one["name"] for one in api.describe()["sobjects"]])
        self.assertEqual(api.limits()["DailyApiRequests"]["Max"], 1000)
        self.assertEqual(api.oauth2("userinfo")["organization_id"], org["organizationId"])
        api.query("SELECT COUNT() FROM Contact")
        # From the header of each answer.
        self.assertEqual(api.api_usage["api-usage"].total, 1000)
        self.assertGreaterEqual(api.api_usage["api-usage"].used, 4)

    def test_refusals_arrive_with_salesforces_own_codes(self):
        self.allowed = "a query is refused with|there is no field Foo__c"
        api = self.direct(self.organization())
        api.Contact.create({"LastName": "One", "Key__c": "k"})
        for code, call in (
            ("REQUIRED_FIELD_MISSING", lambda: api.Contact.create({"FirstName": "x"})),
            ("DUPLICATE_VALUE", lambda: api.Contact.create({"LastName": "Two", "Key__c": "k"})),
            ("INVALID_FIELD", lambda: api.Contact.create({"LastName": "Two", "Foo__c": "k"})),
            ("INVALID_FIELD", lambda: api.query("SELECT Foo FROM Contact")),
            ("MALFORMED_QUERY", lambda: api.query("SELECT FROM")),
        ):
            with self.subTest(code), self.assertRaises(SalesforceMalformedRequest) as refused:
                call()
            self.assertEqual(refused.exception.content[0]["errorCode"], code)

    def test_passwords_and_the_clients_own_credentials_open_a_session(self):
        org = self.organization()
        self.assertEqual(self.logged_in(org).sf_instance, urlsplit(self.tls).netloc)
        client = {"consumer_key": org["clientId"], "consumer_secret": org["clientSecret"]}
        api = Salesforce(**client, domain="acme.my", version="60.0", session=self.session())
        self.assertEqual(api.query("SELECT COUNT() FROM Contact")["totalSize"], 0)
        with self.assertRaises(SalesforceAuthenticationFailed) as refused:
            self.logged_in({**org, "password": "wrong"})
        self.assertIn("authentication failure", str(refused.exception))

    def test_a_session_that_ends_in_the_middle_is_renewed_by_the_library_and_the_call_made_again(self):
        org = self.organization()
        api = self.logged_in(org)
        first = api.session_id
        self.control("POST", self.of(org, "/expire-token"), {})
        self.assertEqual(api.query("SELECT COUNT() FROM Contact")["totalSize"], 0)
        self.assertNotEqual(api.session_id, first)
        # A record's own calls renew as well.
        second = api.session_id
        self.control("POST", self.of(org, "/expire-token"), {})
        self.assertTrue(api.Contact.create({"LastName": "One"})["success"])
        self.assertNotEqual(api.session_id, second)
        self.assertEqual(self.counts(org)["live"], 1)
        # Who only has a session cannot renew it.
        with self.assertRaises(SalesforceExpiredSession):
            self.direct(org).query("SELECT COUNT() FROM Contact")

    def test_the_limit_of_the_day_is_reported_and_not_tried_again(self):
        org = self.organization(limits={"daily": 2})
        api = self.direct(org)
        for _ in range(2):
            api.query("SELECT COUNT() FROM Contact")
        with self.assertRaises(SalesforceRefusedRequest) as refused:
            api.query("SELECT COUNT() FROM Contact")
        self.assertEqual(refused.exception.content[0]["errorCode"], "REQUEST_LIMIT_EXCEEDED")
        self.assertEqual(counted(self.counts(org), "salesforce.query"), {"calls": 3, "throttled": 1, "refused": 0, "disturbed": 0})

    def test_a_row_that_somebody_holds_is_refused_to_the_caller(self):
        org = self.organization()
        contacts = self.direct(org).Contact
        made = contacts.create({"LastName": "One"})
        self.control("POST", self.of(org, f"/contacts/{made['id']}/lock"), {"ms": 60_000})
        with self.assertRaises(SalesforceMalformedRequest) as refused:
            contacts.update(made["id"], {"Title": "x"})
        self.assertEqual(refused.exception.content[0]["errorCode"], "UNABLE_TO_LOCK_ROW")

    def test_server_errors_are_the_callers_unless_its_session_tries_again(self):
        org = self.organization()
        self.disturb("salesforce.query", {"type": "status", "status": 503})
        with self.assertRaises(SalesforceGeneralError) as failed:
            self.direct(org).query("SELECT COUNT() FROM Contact")
        self.assertEqual(failed.exception.status, 503)
        # The library leaves this to the session that it is given.
        retry = Retry(total=3, status_forcelist=(500, 502, 503, 504), backoff_factor=0.1)
        self.disturb("salesforce.query", {"type": "status", "status": 503}, 2)
        self.assertEqual(self.direct(org, retries=retry).query("SELECT COUNT() FROM Contact")["totalSize"], 0)
        self.assertEqual(counted(self.counts(org), "salesforce.query"), {"calls": 4, "throttled": 0, "refused": 0, "disturbed": 3})
