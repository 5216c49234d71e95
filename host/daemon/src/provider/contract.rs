//! What every version of the contract can do, in the host's words. Differences between versions end here.

use tandem_core::exchange::{
    Change, Context, Delivery, HttpResponse, Json, Observed, Operation, Problem, Reply, Ruling,
};
use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use super::engine::{Engine, one_line};
use super::sandbox::Sandbox;
use super::{shell, v0_1};

/// A component whose imports are linked and whose exports are checked: instances are made from it.
pub(super) trait Prepared: Send + Sync {
    /// A fresh instance in an empty store.
    fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Box<dyn Contract>>;
}

/// The exports of one instance.
pub(super) trait Contract: Send {
    fn describe(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Json>;
    fn configure(
        &self,
        store: &mut Store<Sandbox>,
        settings: &[u8],
        facts: &[u8],
    ) -> wasmtime::Result<Result<Json, Vec<Problem>>>;
    fn to_provider(
        &self,
        store: &mut Store<Sandbox>,
        object: &str,
        canonical: &[u8],
        current: Option<&[u8]>,
    ) -> wasmtime::Result<Result<Json, Vec<Problem>>>;
    fn to_canonical(
        &self,
        store: &mut Store<Sandbox>,
        object: &str,
        document: &[u8],
    ) -> wasmtime::Result<Result<Json, Vec<Problem>>>;
    fn decide(&self, store: &mut Store<Sandbox>, change: &Change) -> wasmtime::Result<Ruling>;
    fn start(
        &self,
        store: &mut Store<Sandbox>,
        operation: &Operation,
        context: &Context,
    ) -> wasmtime::Result<Reply>;
    fn resume(
        &self,
        store: &mut Store<Sandbox>,
        operation: &Operation,
        note: &[u8],
        response: &HttpResponse,
        context: &Context,
    ) -> wasmtime::Result<Reply>;
    fn receive(
        &self,
        store: &mut Store<Sandbox>,
        delivery: &Delivery,
        context: &Context,
    ) -> wasmtime::Result<Result<Vec<Observed>, Problem>>;
}

/// The versions of the contract that this host speaks, by their track: `0.1` is every `0.1.x`, `1` every `1.x.y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Track {
    V0_1,
}

impl Track {
    /// What this host speaks, for messages.
    pub(super) const SPOKEN: &'static str = "0.1";

    /// The track of a version (`0.1.0`), if this host speaks it.
    pub(super) fn of(version: &str) -> Option<Self> {
        version.strip_prefix("0.1.").map(|_| Self::V0_1)
    }
}

/// Why a component cannot be linked: its imports, or its exports.
pub(super) enum Unlinkable {
    Imports(String),
    Exports(String),
}

/// Links a compiled component and checks its exports.
pub(super) fn prepare(
    engine: &Engine,
    component: &Component,
    track: Track,
) -> Result<Box<dyn Prepared>, Unlinkable> {
    let imports = |error: wasmtime::Error| Unlinkable::Imports(one_line(&format!("{error:#}")));
    let mut linker = Linker::<Sandbox>::new(engine.inner());
    shell::link(&mut linker, engine, component).map_err(imports)?;
    match track {
        Track::V0_1 => {
            v0_1::link(&mut linker).map_err(imports)?;
            let pre = linker.instantiate_pre(component).map_err(imports)?;
            v0_1::prepare(pre).map_err(|error| Unlinkable::Exports(one_line(&format!("{error:#}"))))
        }
    }
}
