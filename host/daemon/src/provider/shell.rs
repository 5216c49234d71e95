//! The empty WASI shell: what the standard libraries of many languages import whether they use it or not.
//!
//! There is nothing in it. No files, no environment, no arguments, no sockets, no sleep: clocks stand at the call's `now`,
//! waiting takes no time, randomness is seeded, input is at its end, stdout is swallowed, stderr's end is kept for the
//! message of a trap. It is written here, in one page, rather than taken from a library that can do all of these things
//! and has to be told not to.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentType, Linker, LinkerInstance, Lower, Resource, ResourceType};

use super::engine::Engine;
use super::sandbox::Sandbox;

/// WASI interfaces (of 0.2) that the shell knows. Others are refused before anything is compiled.
const INTERFACES: [&str; 20] = [
    "cli/environment",
    "cli/exit",
    "cli/stdin",
    "cli/stdout",
    "cli/stderr",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "cli/terminal-stderr",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "filesystem/preopens",
    "filesystem/types",
    "io/error",
    "io/poll",
    "io/streams",
    "random/insecure",
    "random/insecure-seed",
    "random/random",
];

const STDOUT: u32 = 1;
const STDERR: u32 = 2;
/// Most random bytes at once.
const RANDOM_BYTES: u64 = 64 << 10;

enum IoError {}
enum Pollable {}
enum InputStream {}
enum OutputStream {}
enum TerminalInput {}
enum TerminalOutput {}
enum Descriptor {}
enum Nothing {}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[expect(dead_code, reason = "part of the type that guests import")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// Whether an import (`wasi:io/streams@0.2.6`) is part of the shell.
pub(super) fn knows(import: &str) -> bool {
    import
        .strip_prefix("wasi:")
        .and_then(|rest| rest.split_once('@'))
        .is_some_and(|(interface, version)| INTERFACES.contains(&interface) && version.starts_with("0.2."))
}

/// Links the shell to what the component imports of it, under the versions that it names.
pub(super) fn link(
    linker: &mut Linker<Sandbox>,
    engine: &Engine,
    component: &Component,
) -> wasmtime::Result<()> {
    for (name, import) in component.component_type().imports(engine.inner()) {
        let Some(interface) =
            name.strip_prefix("wasi:").and_then(|rest| rest.split_once('@')).map(|(i, _)| i)
        else {
            continue;
        };
        let ComponentItem::ComponentInstance(wanted) = import.ty else { continue };
        let mut instance = linker.instance(name)?;
        for (member, item) in wanted.exports(engine.inner()) {
            match item.ty {
                ComponentItem::Resource(_) => instance.resource(member, resource(member), |_, _| Ok(()))?,
                ComponentItem::ComponentFunc(_) => function(&mut instance, interface, member)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn resource(member: &str) -> ResourceType {
    match member {
        "error" => ResourceType::host::<IoError>(),
        "pollable" => ResourceType::host::<Pollable>(),
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "terminal-input" => ResourceType::host::<TerminalInput>(),
        "terminal-output" => ResourceType::host::<TerminalOutput>(),
        "descriptor" => ResourceType::host::<Descriptor>(),
        _ => ResourceType::host::<Nothing>(),
    }
}

fn function(at: &mut LinkerInstance<'_, Sandbox>, interface: &str, member: &str) -> wasmtime::Result<()> {
    match interface.split_once('/').map(|(package, _)| package) {
        Some("cli") => command_line(at, interface, member),
        Some("clocks") => clocks(at, interface, member),
        Some("random") => randomness(at, interface, member),
        Some("io") => streams(at, interface, member),
        _ if member == "get-directories" => {
            at.func_wrap(member, |_, ()| Ok((Vec::<(Resource<Descriptor>, String)>::new(),)))
        }
        _ => absent(at, interface, member),
    }
}

/// Links, and traps when it is called.
fn absent(at: &mut LinkerInstance<'_, Sandbox>, interface: &str, member: &str) -> wasmtime::Result<()> {
    let name = format!("wasi:{interface}#{member}");
    at.func_new(member, move |_, _, _, _| wasmtime::bail!("it called {name}, which a provider does not have"))
}

fn command_line(at: &mut LinkerInstance<'_, Sandbox>, interface: &str, member: &str) -> wasmtime::Result<()> {
    match member {
        "get-environment" => at.func_wrap(member, |_, ()| Ok((Vec::<(String, String)>::new(),))),
        "get-arguments" => at.func_wrap(member, |_, ()| Ok((Vec::<String>::new(),))),
        "initial-cwd" => at.func_wrap(member, |_, ()| Ok((None::<String>,))),
        "exit" => at.func_wrap(member, |_, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
            wasmtime::bail!("it exited with {}", if status.is_ok() { "success" } else { "failure" })
        }),
        "get-stdin" => at.func_wrap(member, |mut store, ()| {
            store.data_mut().give_handle()?;
            Ok((Resource::<InputStream>::new_own(0),))
        }),
        "get-stdout" => at.func_wrap(member, |mut store, ()| {
            store.data_mut().give_handle()?;
            Ok((Resource::<OutputStream>::new_own(STDOUT),))
        }),
        "get-stderr" => at.func_wrap(member, |mut store, ()| {
            store.data_mut().give_handle()?;
            Ok((Resource::<OutputStream>::new_own(STDERR),))
        }),
        "get-terminal-stdin" => at.func_wrap(member, |_, ()| Ok((None::<Resource<TerminalInput>>,))),
        "get-terminal-stdout" | "get-terminal-stderr" => {
            at.func_wrap(member, |_, ()| Ok((None::<Resource<TerminalOutput>>,)))
        }
        _ => absent(at, interface, member),
    }
}

fn clocks(at: &mut LinkerInstance<'_, Sandbox>, interface: &str, member: &str) -> wasmtime::Result<()> {
    match (interface, member) {
        ("clocks/wall-clock", "now") => at.func_wrap(member, |store, ()| {
            let now = store.data().now;
            let nanoseconds = u32::try_from(now % 1000 * 1_000_000).unwrap_or_default();
            Ok((Datetime { seconds: now / 1000, nanoseconds },))
        }),
        ("clocks/wall-clock", "resolution") => {
            at.func_wrap(member, |_, ()| Ok((Datetime { seconds: 0, nanoseconds: 1_000_000 },)))
        }
        ("clocks/monotonic-clock", "now") => {
            at.func_wrap(member, |store, ()| Ok((store.data().now.saturating_mul(1_000_000),)))
        }
        ("clocks/monotonic-clock", "resolution") => at.func_wrap(member, |_, ()| Ok((1_000_000_u64,))),
        ("clocks/monotonic-clock", "subscribe-instant" | "subscribe-duration") => {
            at.func_wrap(member, |mut store, (_when,): (u64,)| {
                store.data_mut().give_handle()?;
                Ok((Resource::<Pollable>::new_own(0),))
            })
        }
        _ => absent(at, interface, member),
    }
}

fn randomness(at: &mut LinkerInstance<'_, Sandbox>, interface: &str, member: &str) -> wasmtime::Result<()> {
    match member {
        "get-random-bytes" | "get-insecure-random-bytes" => {
            at.func_wrap(member, |mut store, (length,): (u64,)| {
                if length > RANDOM_BYTES {
                    wasmtime::bail!("it asked for {length} random bytes");
                }
                let length = usize::try_from(length).unwrap_or_default();
                let mut bytes = Vec::with_capacity(length + 8);
                while bytes.len() < length {
                    bytes.extend_from_slice(&store.data_mut().random().to_le_bytes());
                }
                bytes.truncate(length);
                Ok((bytes,))
            })
        }
        "get-random-u64" | "get-insecure-random-u64" => {
            at.func_wrap(member, |mut store, ()| Ok((store.data_mut().random(),)))
        }
        "insecure-seed" => at.func_wrap(member, |mut store, ()| {
            let sandbox = store.data_mut();
            Ok(((sandbox.random(), sandbox.random()),))
        }),
        _ => absent(at, interface, member),
    }
}

fn streams(at: &mut LinkerInstance<'_, Sandbox>, interface: &str, member: &str) -> wasmtime::Result<()> {
    type Stream = Resource<OutputStream>;
    match member {
        "[method]pollable.ready" => at.func_wrap(member, |_, (_,): (Resource<Pollable>,)| Ok((true,))),
        "[method]pollable.block" => at.func_wrap(member, |_, (_,): (Resource<Pollable>,)| Ok(())),
        "poll" => at.func_wrap(member, |_, (list,): (Vec<Resource<Pollable>>,)| {
            Ok(((0..u32::try_from(list.len()).unwrap_or(u32::MAX)).collect::<Vec<u32>>(),))
        }),
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => at
            .func_wrap(member, |_, (_, _): (Resource<InputStream>, u64)| {
                Ok((Err::<Vec<u8>, StreamError>(StreamError::Closed),))
            }),
        "[method]input-stream.skip" | "[method]input-stream.blocking-skip" => at
            .func_wrap(member, |_, (_, _): (Resource<InputStream>, u64)| {
                Ok((Err::<u64, StreamError>(StreamError::Closed),))
            }),
        "[method]input-stream.subscribe" => {
            at.func_wrap(member, |mut store, (_,): (Resource<InputStream>,)| {
                store.data_mut().give_handle()?;
                Ok((Resource::<Pollable>::new_own(0),))
            })
        }
        "[method]output-stream.check-write" => {
            at.func_wrap(member, |_, (_,): (Stream,)| Ok((Ok::<u64, StreamError>(4096),)))
        }
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => {
            at.func_wrap(member, |mut store, (stream, bytes): (Stream, Vec<u8>)| {
                if stream.rep() == STDERR {
                    store.data_mut().write_stderr(&bytes);
                }
                Ok((Ok::<(), StreamError>(()),))
            })
        }
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => {
            at.func_wrap(member, |_, (_,): (Stream,)| Ok((Ok::<(), StreamError>(()),)))
        }
        "[method]output-stream.subscribe" => at.func_wrap(member, |mut store, (_,): (Stream,)| {
            store.data_mut().give_handle()?;
            Ok((Resource::<Pollable>::new_own(0),))
        }),
        "[method]error.to-debug-string" => {
            at.func_wrap(member, |_, (_,): (Resource<IoError>,)| Ok((String::new(),)))
        }
        _ => absent(at, interface, member),
    }
}
