//! The contract's 0.1 track: generated bindings, and nothing of them outside this module.

mod convert;

use tandem_core::exchange::{
    Change, Context, Delivery, HttpResponse, Json, Observed, Operation, Problem, Reply, Ruling,
};
use wasmtime::Store;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use super::contract::{Contract, Prepared};
use super::sandbox::Sandbox;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "provider",
        // Documents go into the sandbox from where they are, without a copy on this side.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use bindings::tandem::provider::types as wit;

impl wit::Host for Sandbox {}

impl bindings::tandem::provider::log::Host for Sandbox {
    fn log(&mut self, level: String, message: String) {
        Sandbox::log(self, &level, &message);
    }
}

/// Links the one import of the contract.
pub(super) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    bindings::Provider::add_to_linker::<_, HasSelf<_>>(linker, |sandbox| sandbox)
}

/// Checks the exports.
pub(super) fn prepare(pre: InstancePre<Sandbox>) -> wasmtime::Result<Box<dyn Prepared>> {
    Ok(Box::new(V01Prepared(bindings::ProviderPre::new(pre)?)))
}

struct V01Prepared(bindings::ProviderPre<Sandbox>);

impl Prepared for V01Prepared {
    fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Box<dyn Contract>> {
        Ok(Box::new(V01(self.0.instantiate(store)?)))
    }
}

struct V01(bindings::Provider);

type Problems = Vec<wit::Problem>;

fn document(answer: Result<Vec<u8>, Problems>) -> Result<Json, Vec<Problem>> {
    answer.map_err(|problems| problems.into_iter().map(convert::problem).collect())
}

impl Contract for V01 {
    fn describe(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Json> {
        self.0.tandem_provider_descriptor().call_describe(store)
    }

    fn configure(
        &self,
        store: &mut Store<Sandbox>,
        settings: &[u8],
        facts: &[u8],
    ) -> wasmtime::Result<Result<Json, Vec<Problem>>> {
        self.0.tandem_provider_descriptor().call_configure(store, settings, facts).map(document)
    }

    fn to_provider(
        &self,
        store: &mut Store<Sandbox>,
        object: &str,
        canonical: &[u8],
        current: Option<&[u8]>,
    ) -> wasmtime::Result<Result<Json, Vec<Problem>>> {
        self.0.tandem_provider_mapping().call_to_provider(store, object, canonical, current).map(document)
    }

    fn to_canonical(
        &self,
        store: &mut Store<Sandbox>,
        object: &str,
        text: &[u8],
    ) -> wasmtime::Result<Result<Json, Vec<Problem>>> {
        self.0.tandem_provider_mapping().call_to_canonical(store, object, text).map(document)
    }

    fn decide(&self, store: &mut Store<Sandbox>, change: &Change) -> wasmtime::Result<Ruling> {
        let changed = convert::to_words(&change.changed);
        let change = wit::Change {
            object: &change.object,
            origin: &change.origin,
            before: change.before.as_deref(),
            after: change.after.as_deref(),
            changed: &changed,
        };
        self.0.tandem_provider_rules().call_decide(store, change).map(convert::ruling)
    }

    fn start(
        &self,
        store: &mut Store<Sandbox>,
        operation: &Operation,
        context: &Context,
    ) -> wasmtime::Result<Reply> {
        let lists = convert::to_lists(operation);
        let attributes = convert::to_attributes(&context.attributes);
        let context = wit::Context { now: context.now, attributes: &attributes };
        self.0
            .tandem_provider_exchange()
            .call_start(store, convert::to_operation(operation, &lists), context)
            .map(convert::reply)
    }

    fn resume(
        &self,
        store: &mut Store<Sandbox>,
        operation: &Operation,
        note: &[u8],
        response: &HttpResponse,
        context: &Context,
    ) -> wasmtime::Result<Reply> {
        let lists = convert::to_lists(operation);
        let attributes = convert::to_attributes(&context.attributes);
        let context = wit::Context { now: context.now, attributes: &attributes };
        let headers = convert::to_attributes(&response.headers);
        let response = wit::HttpResponse { status: response.status, headers: &headers, body: &response.body };
        self.0
            .tandem_provider_exchange()
            .call_resume(store, convert::to_operation(operation, &lists), note, response, context)
            .map(convert::reply)
    }

    fn receive(
        &self,
        store: &mut Store<Sandbox>,
        delivery: &Delivery,
        context: &Context,
    ) -> wasmtime::Result<Result<Vec<Observed>, Problem>> {
        let attributes = convert::to_attributes(&context.attributes);
        let context = wit::Context { now: context.now, attributes: &attributes };
        let (headers, query) =
            (convert::to_attributes(&delivery.headers), convert::to_attributes(&delivery.query));
        let delivery = wit::Delivery { headers: &headers, query: &query, body: &delivery.body };
        let answer = self.0.tandem_provider_intake().call_receive(store, delivery, context)?;
        Ok(match answer {
            Ok(rows) => Ok(rows.into_iter().map(convert::observed).collect()),
            Err(problem) => Err(convert::problem(problem)),
        })
    }
}
