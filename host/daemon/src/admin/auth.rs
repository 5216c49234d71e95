//! Who may ask for what: bearer tokens, and the layers that stand before the routes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawPathParams, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tandem_core::id::ScopeId;

use super::problem::Problem;
use crate::config::{Auth, ConfigError, Finding, Secret};

/// Shortest token that is accepted.
const SHORTEST: usize = 16;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// May do everything.
    Admin,
    /// May read metrics.
    Metrics,
    /// May read and write the records of one scope in System A.
    Scope(ScopeId),
}

impl Caller {
    /// Whether the records of a scope are open to the caller.
    #[must_use]
    pub fn may_touch(&self, scope: &str) -> bool {
        match self {
            Self::Admin => true,
            Self::Metrics => false,
            Self::Scope(own) => own.as_str() == scope,
        }
    }
}

/// All tokens, as digests: the tokens themselves are not kept.
///
/// A presented token is hashed and looked up by its digest. The look-up's time says nothing of a token, since nobody can choose a
/// digest's bytes one after the other; the found digest is then compared in constant time.
pub struct Tokens {
    callers: HashMap<[u8; 32], ([u8; 32], Caller)>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.callers.len())
    }
}

impl Tokens {
    /// Reads the tokens that the configuration points at.
    ///
    /// # Errors
    /// Every token that cannot be read, is too short, or stands for two callers.
    pub fn read(auth: &Auth) -> Result<Self, ConfigError> {
        let mut tokens = Self { callers: HashMap::new() };
        let mut findings = Vec::new();
        let named = [(Caller::Admin, Some(&auth.admin)), (Caller::Metrics, auth.metrics.as_ref())];
        let named = named.into_iter().filter_map(|(caller, secret)| secret.map(|secret| (caller, secret)));
        let scopes = auth.scopes.iter().map(|(scope, secret)| (Caller::Scope(scope.clone()), secret));
        for (caller, secret) in named.chain(scopes) {
            if let Err(finding) = tokens.add(caller, secret) {
                findings.push(finding);
            }
        }
        if findings.is_empty() { Ok(tokens) } else { Err(ConfigError { findings }) }
    }

    fn add(&mut self, caller: Caller, secret: &Secret) -> Result<(), Finding> {
        let token = secret.read()?;
        let token = token.expose_secret();
        let refuse = |what: String| Finding { place: secret.place.clone(), what };
        if token.len() < SHORTEST {
            return Err(refuse(format!(
                "the token has {} characters, at least {SHORTEST} are needed; make one with: openssl rand -hex 32",
                token.len()
            )));
        }
        let digest = digest(token);
        if self.callers.insert(digest, (digest, caller)).is_some() {
            return Err(refuse("the same token stands for somebody else too; give each its own".to_owned()));
        }
        Ok(())
    }

    /// Whose token a request bears.
    ///
    /// # Errors
    /// 401 when it bears none or an unknown one.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let refuse = |detail| Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return refuse("a token is needed: authorization: Bearer …");
        };
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = token else {
            return refuse("the authorization header is not of the form: Bearer …");
        };
        let presented = digest(token);
        match self.callers.get(&presented) {
            Some((known, caller)) if bool::from(known.ct_eq(&presented)) => Ok(caller.clone()),
            _ => refuse("the token is not known"),
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Opens routes to the admin token alone.
pub fn for_admin(router: Router, tokens: Arc<Tokens>) -> Router {
    router.layer(from_fn_with_state(tokens, admin_only))
}

/// Opens routes to the admin and metrics tokens.
pub fn for_metrics(router: Router, tokens: Arc<Tokens>) -> Router {
    router.layer(from_fn_with_state(tokens, admin_or_metrics))
}

/// Opens routes to the admin token, and to a scope's token those whose pattern has a `{scope}` that is this scope. The [`Caller`] is put
/// into the request's extensions. Routes without `{scope}` are for the admin alone.
pub fn for_scopes(router: Router, tokens: Arc<Tokens>) -> Router {
    router.route_layer(from_fn_with_state(tokens, admin_or_scope))
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}

async fn admin_only(
    State(tokens): State<Arc<Tokens>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match tokens.caller(request.headers())? {
        Caller::Admin => Ok(next.run(request).await),
        Caller::Metrics | Caller::Scope(_) => Err(forbidden("this needs the admin token")),
    }
}

async fn admin_or_metrics(
    State(tokens): State<Arc<Tokens>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match tokens.caller(request.headers())? {
        Caller::Admin | Caller::Metrics => Ok(next.run(request).await),
        Caller::Scope(_) => Err(forbidden("this needs the admin or the metrics token")),
    }
}

async fn admin_or_scope(
    State(tokens): State<Arc<Tokens>>,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = tokens.caller(request.headers())?;
    let scope = params.iter().find(|(name, _)| *name == "scope").map(|(_, scope)| scope);
    let open = match scope {
        Some(scope) => caller.may_touch(scope),
        None => caller == Caller::Admin,
    };
    if !open {
        return Err(forbidden("the token does not open this scope"));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}
