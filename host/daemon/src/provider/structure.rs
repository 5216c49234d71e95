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

/// Why a file is no component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) reason: String,
    /// It ends in the middle: whoever copies it may not be done.
    pub(super) incomplete: bool,
}

impl From<String> for Damage {
    fn from(reason: String) -> Self {
        Self { reason, incomplete: false }
    }
}

/// Reads a file's bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Structure, Damage> {
    if bytes.is_empty() {
        return Err(Damage { reason: "it is empty".to_owned(), incomplete: true });
    }
    if bytes.starts_with(b"\x7fELF") || wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err("it is native code, which is never loaded from a folder of providers".to_owned().into());
    }
    if !bytes.starts_with(b"\0asm") {
        let incomplete = b"\0asm".starts_with(bytes);
        return Err(Damage { reason: "it is not WebAssembly".to_owned(), incomplete });
    }
    if Parser::is_core_wasm(bytes) {
        return Err("it is a core module, not a component".to_owned().into());
    }
    let broken = |error: wasmparser::BinaryReaderError| Damage {
        reason: format!("it is damaged or cut short at byte {}: {}", error.offset(), error.message()),
        incomplete: ends_in_the_middle(bytes),
    };
    // What features a provider may use is the engine's decision; here only the shape is in question.
    Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).map_err(broken)?;

    let mut structure = Structure::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(broken)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err("it is a core module, not a component".to_owned().into());
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

/// Whether the outermost sections announce more bytes than there are. Only lengths are read: what is inside may be anything.
fn ends_in_the_middle(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.get(8..) else { return true };
    while let Some((_, after)) = rest.split_first() {
        let (mut length, mut shift, mut left) = (0_u64, 0_u32, after);
        loop {
            let Some((byte, after)) = left.split_first() else { return true };
            left = after;
            length |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 || shift > 28 {
                break;
            }
        }
        match usize::try_from(length).ok().and_then(|length| left.get(length..)) {
            Some(after) => rest = after,
            None => return true,
        }
    }
    false
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
