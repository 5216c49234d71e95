use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::json;
use tandem_core::Millis;
use tandem_core::descriptor::{AuthKind, AuthScheme, Refresh, Verify};
use tandem_core::id::ConnectionId;

use super::webhook::{Incoming, VerifyError, verify};
use super::{
    Account, Credential, CredentialError, Credentials, FileTokens, StoredToken, TokenEndpoint, TokenStore,
};

const NOW: Millis = 1_763_898_000_000;

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

fn acme() -> ConnectionId {
    ConnectionId::from("acme")
}

// Static tokens

fn fixed(template: &str, token: &str) -> Account {
    let scheme = AuthScheme {
        kind: AuthKind::Static,
        header: "authorization".into(),
        template: template.into(),
        refresh: None,
    };
    Account {
        scheme,
        credential: secret(token),
        client_id: None,
        client_secret: None,
        settings: serde_json::Map::new(),
        base_url: "https://api.example.com".into(),
    }
}

#[tokio::test]
async fn a_static_token_stands_in_its_template_and_shows_nowhere() {
    let credentials = Credentials::default();
    let credential = credentials.put(&acme(), fixed("Bearer {token}", "pat-marker-1")).unwrap();
    let authorisation = credential.authorise(&Endpoint::default(), NOW).await.unwrap();
    assert_eq!(authorisation.value(), "Bearer pat-marker-1");
    assert!(authorisation.value().is_sensitive());
    let shown = format!("{credentials:?} {credential:?} {authorisation:?} {:?}", authorisation.value());
    assert!(!shown.contains("marker"), "{shown}");
}

#[test]
fn a_scheme_that_cannot_work_is_refused() {
    let put = |account| Credentials::default().put(&acme(), account).map(drop).unwrap_err().to_string();
    assert!(put(fixed("Bearer", "x")).contains("{token}"));
    assert!(put(fixed("{token}", "a\nb")).contains("cannot stand in a header"));
    let mut account = fixed("{token}", "x");
    account.scheme.header = "no header".into();
    assert!(put(account).contains("not the name of a header"));
    let mut account = oauth();
    account.client_secret = None;
    assert!(put(account).contains("client_secret"));
    let mut account = oauth();
    account.settings.clear();
    assert!(put(account).contains("settings.tenant"));
}

// OAuth

/// Status and body, or no answer.
type Prepared = Result<(u16, String), String>;
/// URL, authorization and form.
type Asked = (String, Option<HeaderValue>, String);

/// A token endpoint with prepared answers; counts what it is asked.
#[derive(Clone, Default)]
struct Endpoint {
    answers: Arc<Mutex<Vec<Prepared>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    running: Arc<AtomicUsize>,
    gate: Option<Arc<tokio::sync::Semaphore>>,
}

impl Endpoint {
    fn with(answers: Vec<Prepared>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() }
    }

    fn asked(&self) -> usize {
        self.asked.lock().len()
    }
}

impl TokenEndpoint for Endpoint {
    async fn post(
        &self,
        _: &ConnectionId,
        url: &str,
        authorization: Option<HeaderValue>,
        form: Bytes,
    ) -> Result<(u16, Bytes), String> {
        assert_eq!(self.running.fetch_add(1, Ordering::SeqCst), 0, "one refresh at a time");
        let form = String::from_utf8(form.to_vec()).unwrap();
        self.asked.lock().push((url.to_owned(), authorization, form));
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        let answer = self.answers.lock().remove(0);
        answer.map(|(status, body)| (status, Bytes::from(body)))
    }
}

fn oauth() -> Account {
    let refresh = Refresh {
        url: "https://login.example.com/{tenant}/token".into(),
        client: "body".into(),
        access_token: None,
        refresh_token: None,
        expires_in: None,
        base_url: Some("/instance_url".into()),
        error: None,
    };
    let scheme = AuthScheme {
        kind: AuthKind::Oauth2,
        header: "authorization".into(),
        template: "Bearer {token}".into(),
        refresh: Some(refresh),
    };
    Account {
        scheme,
        credential: secret("refresh-0"),
        client_id: Some("client".into()),
        client_secret: Some(secret("s&cret")),
        settings: json!({"tenant": "a/b"}).as_object().unwrap().clone(),
        base_url: "https://api.example.com".into(),
    }
}

fn answer(token: &str, refresh: Option<&str>) -> Result<(u16, String), String> {
    let body = json!({"access_token": token, "refresh_token": refresh, "expires_in": 1800,
        "instance_url": "https://eu1.example.com"});
    Ok((200, body.to_string()))
}

#[derive(Default)]
struct Memory {
    saved: Mutex<Vec<StoredToken>>,
    broken: std::sync::atomic::AtomicBool,
}

impl TokenStore for Memory {
    fn load(&self, _: &ConnectionId) -> Option<StoredToken> {
        self.saved.lock().last().cloned()
    }

    fn save<'a>(
        &'a self,
        _: &'a ConnectionId,
        token: StoredToken,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move {
            if self.broken.load(Ordering::SeqCst) {
                return Err("the disk is full".to_owned());
            }
            self.saved.lock().push(token);
            Ok(())
        })
    }
}

#[tokio::test]
async fn many_who_ask_at_once_cause_one_refresh() {
    let endpoint = Endpoint::with(vec![answer("access-1", None)]);
    let credential = Arc::new(Credential::new(&acme(), oauth(), Arc::new(Memory::default())).unwrap());
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (credential, endpoint) = (credential.clone(), endpoint.clone());
        asking.spawn(async move { credential.authorise(&endpoint, NOW).await.map(|a| a.value().clone()) });
    }
    while let Some(value) = asking.join_next().await {
        assert_eq!(value.unwrap().unwrap(), "Bearer access-1");
    }
    let asked = endpoint.asked.lock();
    let (url, authorization, form) = &asked[0];
    assert_eq!((asked.len(), url.as_str()), (1, "https://login.example.com/a%2Fb/token"));
    assert!(authorization.is_none());
    assert_eq!(
        form,
        "grant_type=refresh_token&refresh_token=refresh%2D0&client_id=client&client_secret=s%26cret"
    );
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_after_it_was_refused() {
    let endpoint = Endpoint::with(vec![answer("a1", None), answer("a2", None), answer("a3", None)]);
    let credential = Credential::new(&acme(), oauth(), Arc::new(Memory::default())).unwrap();
    let first = credential.authorise(&endpoint, NOW).await.unwrap();
    assert_eq!(first.base_url(), Some("https://eu1.example.com"));
    credential.authorise(&endpoint, NOW + 1_739_000).await.unwrap();
    assert_eq!(endpoint.asked(), 1);
    let second = credential.authorise(&endpoint, NOW + 1_741_000).await.unwrap();
    assert_eq!((endpoint.asked(), second.value().to_str().unwrap()), (2, "Bearer a2"));
    credential.invalidate(&first);
    credential.authorise(&endpoint, NOW + 1_741_000).await.unwrap();
    assert_eq!(endpoint.asked(), 2, "a refusal of the old token says nothing of the new one");
    credential.invalidate(&second);
    let third = credential.authorise(&endpoint, NOW + 1_741_000).await.unwrap();
    assert_eq!(third.value(), "Bearer a3");
}

#[tokio::test]
async fn a_rotated_refresh_token_is_saved_before_the_access_token_is_used() {
    let store = Arc::new(Memory::default());
    let endpoint = Endpoint::with(vec![answer("a1", Some("refresh-1")), answer("a2", Some("refresh-2"))]);
    let credential = Credential::new(&acme(), oauth(), store.clone()).unwrap();
    store.broken.store(true, Ordering::SeqCst);
    let error = credential.authorise(&endpoint, NOW).await.unwrap_err();
    assert!(
        matches!(&error, CredentialError::Unavailable { what, .. } if what.contains("the disk is full")),
        "{error}"
    );
    store.broken.store(false, Ordering::SeqCst);
    credential.authorise(&endpoint, NOW + 2_000).await.unwrap();
    assert!(endpoint.asked.lock()[1].2.contains("refresh%2D1"), "the rotated one was not forgotten");
    assert_eq!(store.saved.lock().len(), 2);

    let again = Credential::new(&acme(), oauth(), store.clone()).unwrap();
    let endpoint = Endpoint::with(vec![answer("a3", None)]);
    again.authorise(&endpoint, NOW).await.unwrap();
    assert!(endpoint.asked.lock()[0].2.contains("refresh%2D2"), "after a restart");

    let mut anew = oauth();
    anew.credential = secret("refresh-from-a-new-authorisation");
    let anew = Credential::new(&acme(), anew, store).unwrap();
    let endpoint = Endpoint::with(vec![answer("a4", None)]);
    anew.authorise(&endpoint, NOW).await.unwrap();
    assert!(endpoint.asked.lock()[0].2.contains("new%2Dauthorisation"), "a new one wins");
}

#[tokio::test]
async fn the_base_url_that_came_with_a_token_is_kept_over_a_restart() {
    let store = Arc::new(Memory::default());
    let credential = Credential::new(&acme(), oauth(), store.clone()).unwrap();
    let told = credential.authorise(&Endpoint::with(vec![answer("a1", None)]), NOW).await.unwrap();
    assert_eq!(told.base_url(), Some("https://eu1.example.com"));
    assert_eq!(store.saved.lock().len(), 1, "kept before the token is used");
    assert!(store.saved.lock()[0].token.is_none(), "the configured token is copied nowhere");

    let silent = |token: &str| Ok((200, json!({"access_token": token, "expires_in": 1800}).to_string()));
    let again = Credential::new(&acme(), oauth(), store.clone()).unwrap();
    let kept = again.authorise(&Endpoint::with(vec![silent("a2")]), NOW).await.unwrap();
    assert_eq!(
        kept.base_url(),
        Some("https://eu1.example.com"),
        "an answer that names none means the last one"
    );
    assert_eq!(store.saved.lock().len(), 1, "nothing new, nothing written");

    let mut anew = oauth();
    anew.credential = secret("refresh-of-another-account");
    let anew = Credential::new(&acme(), anew, store).unwrap();
    let other = anew.authorise(&Endpoint::with(vec![silent("a3")]), NOW).await.unwrap();
    assert_eq!(other.base_url(), None, "another authorisation may be of another account");
}

#[tokio::test]
async fn a_refresh_is_carried_to_its_end_when_its_caller_gives_up() {
    let store = Arc::new(Memory::default());
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let mut endpoint = Endpoint::with(vec![answer("a1", Some("refresh-1"))]);
    endpoint.gate = Some(gate.clone());
    let credential = Arc::new(Credential::new(&acme(), oauth(), store.clone()).unwrap());
    let caller = tokio::spawn({
        let (credential, endpoint) = (credential.clone(), endpoint.clone());
        async move { credential.authorise(&endpoint, NOW).await.map(drop) }
    });
    while endpoint.asked() == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    let authorisation = credential.authorise(&endpoint, NOW).await.unwrap();
    assert_eq!(authorisation.value(), "Bearer a1");
    assert_eq!((endpoint.asked(), store.saved.lock().len()), (1, 1));
}

#[tokio::test]
async fn a_refusal_stands_and_an_outage_is_tried_again_after_a_pause() {
    let refused =
        || Ok((400, json!({"error": "invalid_grant", "error_description": "refresh-0"}).to_string()));
    let endpoint = Endpoint::with(vec![Err("no route".into()), Ok((503, "refresh-0".into())), refused()]);
    let credential = Credential::new(&acme(), oauth(), Arc::new(Memory::default())).unwrap();
    for (after, asked) in [(0, 1), (999, 1), (1_000, 2), (2_999, 2)] {
        let error = credential.authorise(&endpoint, NOW + after).await.unwrap_err();
        assert!(matches!(error, CredentialError::Unavailable { .. }));
        assert!(!error.to_string().contains("refresh-0"), "{error}");
        assert_eq!(endpoint.asked(), asked, "after {after} ms");
    }
    for after in [3_000, 1_000_000_000] {
        let error = credential.authorise(&endpoint, NOW + after).await.unwrap_err();
        assert!(
            matches!(&error, CredentialError::Refused { what, .. } if what == "invalid_grant"),
            "{error}"
        );
        assert!(!error.to_string().contains("refresh-0"), "{error}");
    }
    assert_eq!(endpoint.asked(), 3);
}

#[tokio::test]
async fn an_error_may_come_with_status_200_and_the_client_may_stand_in_basic() {
    let mut account = oauth();
    account.scheme.refresh.as_mut().unwrap().client = "basic".into();
    let endpoint = Endpoint::with(vec![Ok((200, json!({"error": "invalid_code"}).to_string()))]);
    let credential = Credential::new(&acme(), account, Arc::new(Memory::default())).unwrap();
    let error = credential.authorise(&endpoint, NOW).await.unwrap_err();
    assert!(matches!(&error, CredentialError::Refused { what, .. } if what == "invalid_code"));
    let asked = endpoint.asked.lock();
    assert_eq!(asked[0].1.as_ref().unwrap(), "Basic Y2xpZW50OnMmY3JldA==");
    assert!(!asked[0].2.contains("client_secret"));
}

#[tokio::test]
async fn a_lost_race_is_won_by_reading_the_store_again() {
    let store = Arc::new(Memory::default());
    let first = Credential::new(&acme(), oauth(), store.clone()).unwrap();
    let second = Credential::new(&acme(), oauth(), store.clone()).unwrap();
    first.authorise(&Endpoint::with(vec![answer("a1", Some("refresh-1"))]), NOW).await.unwrap();
    let endpoint =
        Endpoint::with(vec![Ok((400, json!({"error": "invalid_grant"}).to_string())), answer("a2", None)]);
    second.authorise(&endpoint, NOW).await.unwrap();
    assert!(endpoint.asked.lock()[1].2.contains("refresh%2D1"));
}

#[tokio::test]
async fn tokens_in_files_are_private_and_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = FileTokens::new(&folder.path().join("tokens")).unwrap();
    let odd = ConnectionId::from("../acme eu");
    assert!(tokens.load(&odd).is_none());
    use secrecy::ExposeSecret;
    for (token, base_url) in [
        (Some("one"), Some("https://eu1.example.com")),
        (Some("two"), None),
        (None, Some("https://a.b")),
        (Some("end"), Some("https://a.b")),
    ] {
        let stored = StoredToken {
            seed: "5eed".into(),
            token: token.map(secret),
            base_url: base_url.map(str::to_owned),
        };
        tokens.save(&odd, stored).await.unwrap();
        let loaded = tokens.load(&odd).unwrap();
        assert_eq!(loaded.seed, "5eed");
        assert_eq!(loaded.token.as_ref().map(ExposeSecret::expose_secret), token);
        assert_eq!(loaded.base_url.as_deref(), base_url);
    }
    let files: Vec<_> =
        std::fs::read_dir(folder.path().join("tokens")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&files[0]).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    for torn in ["5eed\ntw", "5eed\ntwo\nhttps://eu1.example", "5eed\ntwo\nhttps://eu1.example.com\nen"] {
        std::fs::write(&files[0], torn).unwrap();
        assert!(tokens.load(&odd).is_none(), "{torn}");
    }
}

// Webhooks

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn mac(secret: &str, message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn hubspot() -> Verify {
    Verify::HmacSha256 {
        secret: "client_secret".into(),
        message: "{method}{url}{body}{timestamp}".into(),
        header: "x-hubspot-signature-v3".into(),
        encoding: "base64".into(),
        timestamp: Some("x-hubspot-request-timestamp".into()),
        tolerance_ms: Some(300_000),
    }
}

const URL: &str = "https://sync.example.com/hooks/app/hs?x=a%3Ab%20c";
const BODY: &[u8] = b"[{\"eventId\":1}]";

fn signed(signature: &str, stamp: Millis) -> HeaderMap {
    headers(&[("x-hubspot-signature-v3", signature), ("x-hubspot-request-timestamp", &stamp.to_string())])
}

#[test]
fn hubspots_signature_fits_in_both_forms_of_the_address() {
    for url in [URL, "https://sync.example.com/hooks/app/hs?x=a:b%20c"] {
        let message = [b"POST", url.as_bytes(), BODY, NOW.to_string().as_bytes()].concat();
        let headers = signed(&base64(&mac("s1", &message)), NOW);
        let incoming = Incoming { method: "POST", url: URL, headers: &headers, body: BODY };
        assert_eq!(verify(&hubspot(), &[secret("s1")], &incoming, NOW), Ok(()));
        assert_eq!(verify(&hubspot(), &[secret("s2"), secret("s1")], &incoming, NOW), Ok(()), "rotation");
        assert_eq!(verify(&hubspot(), &[secret("s2")], &incoming, NOW), Err(VerifyError::Wrong));
        let forged = Incoming { body: b"[{\"eventId\":2}]", ..incoming };
        assert_eq!(verify(&hubspot(), &[secret("s1")], &forged, NOW), Err(VerifyError::Wrong));
    }
}

#[test]
fn what_is_old_missing_or_empty_is_not_believed() {
    let message = [b"POST", URL.as_bytes(), BODY, NOW.to_string().as_bytes()].concat();
    let headers = signed(&base64(&mac("s1", &message)), NOW);
    let incoming = Incoming { method: "POST", url: URL, headers: &headers, body: BODY };
    let check = |headers: &HeaderMap, now| {
        verify(&hubspot(), &[secret("s1")], &Incoming { headers, ..incoming }, now)
    };
    assert_eq!(check(&headers, NOW + 300_000), Ok(()));
    assert_eq!(check(&headers, NOW + 300_001), Err(VerifyError::Stale(300_001)));
    assert_eq!(check(&headers, NOW - 300_001), Err(VerifyError::Stale(300_001)));
    assert_eq!(check(&HeaderMap::new(), NOW), Err(VerifyError::Header("x-hubspot-request-timestamp".into())));
    assert_eq!(check(&signed("", NOW), NOW), Err(VerifyError::Wrong));
    assert_eq!(check(&signed("!!!", NOW), NOW), Err(VerifyError::Wrong));
    assert!(matches!(verify(&hubspot(), &[], &incoming, NOW), Err(VerifyError::Setup(_))));
}

#[test]
fn other_layouts_of_signatures_fit() {
    // Standard Webhooks: id.timestamp.body in seconds, several signatures side by side.
    let seconds = (NOW / 1_000).to_string();
    let how = Verify::HmacSha256 {
        secret: "s".into(),
        message: "{header:webhook-id}.{timestamp}.{body}".into(),
        header: "webhook-signature".into(),
        encoding: "base64".into(),
        timestamp: Some("webhook-timestamp".into()),
        tolerance_ms: Some(300_000),
    };
    let good = base64(&mac("key", &[b"m1.", seconds.as_bytes(), b".", BODY].concat()));
    let given = headers(&[
        ("webhook-id", "m1"),
        ("webhook-timestamp", &seconds),
        ("webhook-signature", &format!("v1,AAAA v1,{good}")),
    ]);
    let incoming = Incoming { method: "POST", url: URL, headers: &given, body: BODY };
    assert_eq!(verify(&how, &[secret("key")], &incoming, NOW), Ok(()));

    let how = Verify::HmacSha256 {
        secret: "s".into(),
        message: "{path}|{body}".into(),
        header: "x-signature".into(),
        encoding: "hex".into(),
        timestamp: None,
        tolerance_ms: None,
    };
    let digest = mac("key", &[b"/hooks/app/hs?x=a%3Ab%20c|", BODY].concat());
    let hex: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let given = headers(&[("x-signature", &format!("sha256={hex}"))]);
    let incoming = Incoming { headers: &given, ..incoming };
    assert_eq!(verify(&how, &[secret("key")], &incoming, NOW), Ok(()));
    assert_eq!(verify(&how, &[secret("other")], &incoming, NOW), Err(VerifyError::Wrong));
}

#[test]
fn basic_and_tokens_are_compared_whole() {
    let basic = Verify::Basic { secret: "hook".into() };
    let given = headers(&[("authorization", &format!("basic {}", base64(b"user:pass")))]);
    let incoming = Incoming {
        method: "POST",
        url: "https://x.example/h?code=t%21k",
        headers: &given,
        body: b"{\"a\":{\"token\":\"t!k\"}}",
    };
    assert_eq!(verify(&basic, &[secret("user:pass")], &incoming, NOW), Ok(()));
    assert_eq!(verify(&basic, &[secret("user:passx")], &incoming, NOW), Err(VerifyError::Wrong));
    for (place, fits) in [
        ("query:code", true),
        ("query:other", false),
        ("body:/a/token", true),
        ("body:/a", false),
        ("header:authorization", false),
    ] {
        let how = Verify::Token { secret: "t".into(), place: place.into() };
        assert_eq!(verify(&how, &[secret("t!k")], &incoming, NOW).is_ok(), fits, "{place}");
        assert!(verify(&how, &[secret("t!")], &incoming, NOW).is_err(), "{place}");
    }
    assert_eq!(verify(&Verify::Path, &[], &incoming, NOW), Ok(()));
}
