//! What a file is, before anything is compiled: parsed and validated as a whole, its imports and exports named.

use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use super::shell;

/// What is known of a component by reading it.
#[derive(Debug, Default)]
pub(super) struct Structure {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    /// The version in the export `tandem:provider/descriptor@…`.
    pub(super) contract: Option<String>,
}

/// Reads a file's bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Structure, String> {
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    if bytes.starts_with(b"\x7fELF") || wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err("it is native code, which is never loaded from a folder of providers".to_owned());
    }
    if !bytes.starts_with(b"\0asm") {
        return Err("it is not WebAssembly".to_owned());
    }
    if Parser::is_core_wasm(bytes) {
        return Err("it is a core module, not a component".to_owned());
    }
    let broken = |error: wasmparser::BinaryReaderError| {
        format!("it is damaged or cut short at byte {}: {}", error.offset(), error.message())
    };
    // What features a provider may use is the engine's decision; here only the shape is in question.
    Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).map_err(broken)?;

    let mut structure = Structure::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(broken)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err("it is a core module, not a component".to_owned());
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    structure.imports.push(import.map_err(broken)?.name.0.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    structure.exports.push(export.map_err(broken)?.name.0.to_owned());
                }
            }
            _ => {}
        }
    }
    structure.contract = structure
        .exports
        .iter()
        .find_map(|name| name.strip_prefix("tandem:provider/descriptor@"))
        .map(ToOwned::to_owned);
    Ok(structure)
}

/// Whether everything that it imports is on the list; the first that is not is given back.
pub(super) fn allow(structure: &Structure) -> Result<(), String> {
    let allowed = |import: &str| {
        import.starts_with("tandem:provider/log@")
            || import.starts_with("tandem:provider/types@")
            || shell::knows(import)
    };
    match structure.imports.iter().find(|import| !allowed(import)) {
        Some(import) => Err(import.clone()),
        None => Ok(()),
    }
}
