//! Markers: texts that must not be found in places where they do not belong, in no form in which software writes text down.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::Error;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Texts to be looked for, each in all its forms.
#[derive(Clone, Debug, Default)]
pub struct Markers {
    /// Forms by their first two bytes.
    forms: BTreeMap<[u8; 2], Vec<Form>>,
}

#[derive(Clone, Debug)]
struct Form {
    bytes: Vec<u8>,
    /// The marker and the form's name.
    is: String,
}

impl Markers {
    /// Markers that are looked for as they are and in base64, hexadecimal, percent-encoding, JSON and Rust's debug output.
    #[must_use]
    pub fn new<'a>(markers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for marker in markers {
            assert!(marker.len() >= 8, "{marker:?} is too short to be told from chance");
            for (name, form) in forms(marker) {
                let Some(first) = form.as_bytes().first_chunk::<2>() else { continue };
                let place: &mut Vec<Form> = all.forms.entry(*first).or_default();
                if !place.iter().any(|known| known.bytes == form.as_bytes()) {
                    place.push(Form { bytes: form.into_bytes(), is: format!("{marker} ({name})") });
                }
            }
        }
        all
    }

    /// The markers that some bytes hold, with their forms, each once.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Vec<String> {
        let mut begins = vec![false; 1 << 16];
        for first in self.forms.keys() {
            if let Some(begins) = begins.get_mut(usize::from(u16::from_ne_bytes(*first))) {
                *begins = true;
            }
        }
        let mut found: Vec<String> = Vec::new();
        for (at, pair) in bytes.windows(2).enumerate() {
            let [one, two] = pair else { continue };
            let first = [*one, *two];
            if begins.get(usize::from(u16::from_ne_bytes(first))) != Some(&true) {
                continue;
            }
            let rest = bytes.get(at..).unwrap_or_default();
            for form in self.forms.get(&first).into_iter().flatten() {
                if rest.starts_with(&form.bytes) && !found.contains(&form.is) {
                    found.push(form.is.clone());
                }
            }
        }
        found
    }

    /// The files below a folder that hold a marker.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn search(&self, folder: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let held = self.find(&std::fs::read(&path)?);
                    found.extend(held.into_iter().map(|marker| (path.clone(), marker)));
                }
            }
        }
        Ok(found)
    }
}

/// All forms of a text, with their names.
fn forms(text: &str) -> Vec<(&'static str, String)> {
    let bytes = text.as_bytes();
    let mut forms = vec![("as it is", text.to_owned())];
    for before in 0..3 {
        forms.push(("base64", inside_base64(bytes, before, STANDARD)));
        forms.push(("base64 for URLs", inside_base64(bytes, before, FOR_URLS)));
    }
    let hex = |upper: bool, before: &str, plain: fn(u8) -> bool| {
        bytes.iter().fold(String::new(), |mut all, byte| {
            let _infallible = match (plain(*byte), upper) {
                (true, _) => write!(all, "{}", char::from(*byte)),
                (false, true) => write!(all, "{before}{byte:02X}"),
                (false, false) => write!(all, "{before}{byte:02x}"),
            };
            all
        })
    };
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
    for upper in [false, true] {
        forms.push(("hexadecimal", hex(upper, "", |_| false)));
        forms.push(("percent-encoded, all of it", hex(upper, "%", |_| false)));
        forms.push(("percent-encoded", hex(upper, "%", unreserved)));
        forms.push(("percent-encoded, marks too", hex(upper, "%", alphanumeric)));
    }
    forms.push(("as in a form", hex(true, "%", unreserved).replace("%20", "+")));
    let quoted = serde_json::Value::from(text).to_string();
    forms.push(("in JSON", quoted.trim_matches('"').to_owned()));
    forms.push(("in JSON, slashes escaped", quoted.trim_matches('"').replace('/', "\\/")));
    for upper in [false, true] {
        let escaped = text.encode_utf16().fold(String::new(), |mut all, unit| {
            let _infallible = match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => write!(all, "{}", char::from(byte)),
                _ if upper => write!(all, "\\u{unit:04X}"),
                _ => write!(all, "\\u{unit:04x}"),
            };
            all
        });
        forms.push(("in ASCII JSON", escaped));
    }
    forms.push(("as escaped bytes", bytes.escape_ascii().to_string()));
    let numbers: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    forms.push(("as a list of numbers", numbers.join(", ")));
    forms.push(("as a dense list of numbers", numbers.join(",")));
    forms
}

/// What base64 makes of the bytes when so many others stand before them, without the characters that neighbours share.
fn inside_base64(bytes: &[u8], before: usize, alphabet: &[u8; 64]) -> String {
    let bits = |at: usize| -> u32 {
        // Sextet number `at` of the padded bytes.
        (0..6).fold(0, |sextet, bit| {
            let place = at * 6 + bit;
            let byte =
                (place / 8).checked_sub(before).and_then(|index| bytes.get(index)).copied().unwrap_or(0);
            (sextet << 1) | u32::from((byte >> (7 - place % 8)) & 1)
        })
    };
    let first = (before * 8).div_ceil(6);
    let end = (before + bytes.len()) * 8 / 6;
    (first..end).filter_map(|at| alphabet.get(bits(at) as usize)).map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "pat-na1-7431/ö+key";

    fn holds(bytes: &[u8]) -> bool {
        !Markers::new([TOKEN]).find(bytes).is_empty()
    }

    #[test]
    fn a_marker_is_found_in_every_form_wherever_it_stands() {
        // Made with `base64`, `basenc --base64url`, `xxd -p` and `jq -sRr @uri`; 0, 1 and 2 bytes stand before the marker.
        for text in [
            "x pat-na1-7431/ö+key y",
            "cGF0LW5hMS03NDMxL8O2K2tleQ==",
            "YXBhdC1uYTEtNzQzMS/DtitrZXk=",
            "YXBhdC1uYTEtNzQzMS_DtitrZXk=",
            "YWJwYXQtbmExLTc0MzEvw7Yra2V5",
            "7061742d6e61312d373433312fc3b62b6b6579",
            "7061742D6E61312D373433312FC3B62B6B6579",
            "pat-na1-7431%2F%C3%B6%2Bkey",
            "pat-na1-7431%2f%c3%b6%2bkey",
            "pat%2Dna1%2D7431%2F%C3%B6%2Bkey",
            "pat-na1-7431\\/ö+key",
            "pat-na1-7431/\\u00f6+key",
            "pat-na1-7431/\\xc3\\xb6+key",
            "[112, 97, 116, 45, 110, 97, 49, 45, 55, 52, 51, 49, 47, 195, 182, 43, 107, 101, 121]",
        ] {
            assert!(holds(text.as_bytes()), "{text}");
        }
        assert!(!holds(b"pat-na1-7432/\xc3\xb6+key and cGF0LW5hMS03NDMy"));
    }

    #[test]
    fn base64_of_a_longer_text_holds_the_marker_at_every_alignment() {
        for before in 0..7_usize {
            for after in 0..4_usize {
                let text = [vec![0xa5; before], TOKEN.as_bytes().to_vec(), vec![0x5a; after]].concat();
                for alphabet in [STANDARD, FOR_URLS] {
                    assert!(
                        holds(inside_base64(&text, 0, alphabet).as_bytes()),
                        "{before} before, {after} after"
                    );
                }
            }
        }
    }

    #[test]
    fn a_marker_in_a_file_deep_below_is_found() -> Result<(), Error> {
        let folder = tempfile::tempdir()?;
        let deep = folder.path().join("queue/blobs");
        std::fs::create_dir_all(&deep)?;
        std::fs::write(deep.join("clean"), b"\x00\xffnothing\x00")?;
        let markers = Markers::new(["pat-marker", "another-one"]);
        assert_eq!(markers.search(folder.path())?, []);
        std::fs::write(deep.join("7"), b"\x00\x01\xfe..pat-marker\x00tail")?;
        assert_eq!(markers.search(folder.path())?, [(deep.join("7"), "pat-marker (as it is)".to_owned())]);
        Ok(())
    }
}
