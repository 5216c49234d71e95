//! The one engine of a process: what WebAssembly may be here, how it is compiled, and the thread that makes time pass for it.
//!
//! Cranelift only; no threads, no shared memory, no 64-bit memory, no garbage collection, no exceptions, no asynchronous
//! calls: what a provider does not need is not there to be attacked. NaNs are canonical, so that the same input gives the
//! same bytes on every machine. Memory is allocated on demand: nothing is handed from one customer's sandbox to another's,
//! and instances live long enough that a pool would gain nothing measurable (figures in the guests' `measure` test).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{
    Cache, CacheConfig, Config, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy, WasmFeatures,
};

/// Time between two ticks. A deadline is looked at once a tick.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// Room on the native stack for one call of a guest.
pub(crate) const WASM_STACK_BYTES: usize = 512 * 1024;

/// How sandboxes get their memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// Mapped when an instance is made, unmapped when it goes.
    #[default]
    OnDemand,
    /// Slots that are made once and reset between uses, for so many instances at the most.
    Pooled {
        /// Slots.
        instances: u32,
    },
}

/// How an [`Engine`] is built.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// Where compiled code is kept between runs, until the machine is started again. It is executed as it stands: the folder
    /// must belong to the daemon alone, and is made with mode 0700. None: compile at every start.
    pub cache: Option<PathBuf>,
    /// How sandboxes get their memory.
    pub allocation: Allocation,
}

/// The engine could not be built.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The folder for compiled code is of no use.
    #[error("cannot use {path} for compiled providers: {reason}; make it a folder that only the daemon can write, or leave it out", path = path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The machine cannot run it.
    #[error("cannot start the WebAssembly engine: {reason}")]
    Engine {
        /// Why.
        reason: String,
    },
}

/// The engine. A process has one; clones are the same one.
#[derive(Clone)]
pub struct Engine(Arc<wasmtime::Engine>);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Builds the engine and starts the thread that makes its epochs pass. The thread ends with the last clone.
    ///
    /// # Errors
    /// When the folder for compiled code cannot be used, or the machine cannot run the engine.
    pub fn new(settings: &EngineConfig) -> Result<Self, EngineError> {
        let mut config = Config::new();
        config.strategy(Strategy::Cranelift);
        config.wasm_features(unwanted(), false);
        config.shared_memory(false);
        config.concurrency_support(false);
        config.epoch_interruption(true);
        config.max_wasm_stack(WASM_STACK_BYTES);
        config.cranelift_nan_canonicalization(true);
        config.wasm_backtrace_max_frames(None);
        config.generate_address_map(false);
        if let Some(path) = &settings.cache {
            config.cache(Some(cache(path)?));
        }
        if let Allocation::Pooled { instances } = settings.allocation {
            let mut pool = PoolingAllocationConfig::new();
            pool.total_component_instances(instances)
                .total_core_instances(instances.saturating_mul(8))
                .total_memories(instances.saturating_mul(2))
                .total_tables(instances.saturating_mul(4))
                .max_unused_warm_slots(instances.min(256));
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        let failed = |error: String| EngineError::Engine { reason: error };
        let engine =
            wasmtime::Engine::new(&config).map_err(|error| failed(one_line(&format!("{error:#}"))))?;
        let weak = engine.weak();
        std::thread::Builder::new()
            .name("wasm-ticker".to_owned())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(TICK);
                }
            })
            .map_err(|error| failed(format!("its ticking thread cannot be started: {error}")))?;
        Ok(Self(Arc::new(engine)))
    }

    pub(super) fn inner(&self) -> &wasmtime::Engine {
        &self.0
    }
}

/// Everything that compiled Rust, C, Go or JavaScript does without.
fn unwanted() -> WasmFeatures {
    WasmFeatures::THREADS
        | WasmFeatures::SHARED_EVERYTHING_THREADS
        | WasmFeatures::MEMORY64
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::GC
        | WasmFeatures::FUNCTION_REFERENCES
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::STACK_SWITCHING
        | WasmFeatures::CUSTOM_PAGE_SIZES
        | WasmFeatures::WIDE_ARITHMETIC
        | WasmFeatures::CM_ASYNC
        | WasmFeatures::CM_ASYNC_STACKFUL
        | WasmFeatures::CM_ERROR_CONTEXT
        | WasmFeatures::CM_THREADING
        | WasmFeatures::CM_GC
}

fn cache(path: &PathBuf) -> Result<Cache, EngineError> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};

    let failed = |reason: String| EngineError::Cache { path: path.clone(), reason: one_line(&reason) };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed(error.to_string()))?;
    let absolute = path.canonicalize().map_err(|error| failed(error.to_string()))?;
    let metadata = absolute.metadata().map_err(|error| failed(error.to_string()))?;
    if metadata.mode() & 0o022 != 0 || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(failed("others than the daemon can write to it".to_owned()));
    }
    let since_boot = absolute.join(boot());
    remove_of_other_boots(&absolute, &since_boot).map_err(|error| failed(error.to_string()))?;
    let mut config = CacheConfig::new();
    config.with_directory(since_boot);
    Cache::new(config).map_err(|error| failed(format!("{error:#}")))
}

/// Names this run of the operating system. Compiled code is written without a sync and has no checksum, and it is executed as it
/// stands: after a power loss a file may be torn, so what an earlier boot left is never used.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match id.trim() {
        // Nobody tells: good for this process only.
        "" => format!("process-{}", std::process::id()),
        id => format!("boot-{id}"),
    }
}

/// Removes compiled code that was kept before the machine was started.
fn remove_of_other_boots(folder: &Path, own: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let ours = name == "modules" || name.starts_with("boot-") || name.starts_with("process-");
        if ours && path != own {
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The same text without line breaks and control characters.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn compiled_code_is_kept_where_nobody_else_can_write() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = folder.path().join("open");
        std::fs::create_dir(&open).expect("made");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).expect("opened");
        let error = Engine::new(&EngineConfig { cache: Some(open.clone()), ..EngineConfig::default() })
            .expect_err("anybody could put code there");
        assert!(error.to_string().contains(&open.display().to_string()), "{error}");

        let own = folder.path().join("a/b");
        Engine::new(&EngineConfig { cache: Some(own.clone()), ..EngineConfig::default() })
            .expect("it makes its own");
        assert_eq!(own.metadata().expect("made").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn compiled_code_of_an_earlier_boot_is_never_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("compiled");
        let start = || {
            Engine::new(&EngineConfig { cache: Some(path.clone()), ..EngineConfig::default() })
                .expect("it starts")
        };
        let names = || {
            let entries = std::fs::read_dir(&path).expect("a folder");
            let mut names: Vec<_> = entries
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        let _first = start();
        let since_boot = path.join(boot());
        std::fs::create_dir_all(since_boot.join("modules")).expect("made");
        std::fs::write(since_boot.join("modules/code"), b"kept").expect("written");
        for other in ["boot-00000000-0000-0000-0000-000000000000", "process-1", "modules", "notes"] {
            std::fs::create_dir(path.join(other)).expect("made");
            std::fs::write(path.join(other).join("code"), b"torn").expect("written");
        }
        let _second = start();
        assert_eq!(names(), [boot(), "notes".to_owned()], "what is not the daemon's stays");
        assert!(since_boot.join("modules/code").exists(), "code of this boot stays");
    }

    #[test]
    fn text_from_outside_becomes_one_line_without_control_characters() {
        assert_eq!(one_line("a\r\n\u{1b}[31m b\u{7} \u{85}c"), "a [31m b c");
    }
}
