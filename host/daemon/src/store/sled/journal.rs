//! The journal: every commit since the last checkpoint, in files of its own.
//!
//! A file begins with `"TNDMJRN1" · number (u64)`. Then come frames, one for each group commit:
//! `0x4d524654 · length (u32) · crc32 (u32) · rows`. The checksum covers the file's number, the frame's position, its length
//! and its rows. A row is `length of key · key · length of value + 1, or 0 for a deletion · value`; lengths are LEB128. Numbers are little-endian.
//!
//! A frame is written only after the one before it was synced, and a file is begun only after the one before it was
//! closed. So at most one frame, the last, can be torn by a power loss: an invalid frame with a valid one behind it is
//! damage. It is named, the file is kept in `set-aside/`, and reading goes on behind it (the state decides, so an old
//! row costs a look, not a record). An invalid frame at the end was never acknowledged, and is cut off.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::keys::Key;

const MAGIC: &[u8; 8] = b"TNDMJRN1";
const FRAME: u32 = 0x4d52_4654;
const FILE_HEADER: u64 = 16;
const FRAME_HEADER: usize = 12;

/// A frame that is being put together, with room for its header in front.
#[derive(Default)]
pub(super) struct Frame(Vec<u8>);

impl Frame {
    /// Adds a row.
    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        if self.0.is_empty() {
            self.0.resize(FRAME_HEADER, 0);
        }
        length(&mut self.0, key.len());
        self.0.extend_from_slice(key);
        match value {
            Some(value) => {
                length(&mut self.0, value.len() + 1);
                self.0.extend_from_slice(value);
            }
            None => self.0.push(0),
        }
    }

    /// No row is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its size.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the rows out of it, keeping the memory.
    pub(super) fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(4 << 20);
    }
}

fn length(into: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn read_length(from: &mut &[u8]) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(head)
}

fn frame_checksum(number: u64, at: u64, rows: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&at.to_le_bytes());
    hasher.update(&(rows.len() as u64).to_le_bytes());
    hasher.update(rows);
    hasher.finalize()
}

fn file_name(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016x}"))
}

/// The journal's folder in the store's.
pub(super) fn folder(store: &Path) -> PathBuf {
    store.join("journal")
}

/// Numbers of the journal's files, oldest first.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(number) = name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The file that is being written.
pub(super) struct Journal {
    folder: PathBuf,
    number: u64,
    file: File,
    end: u64,
}

impl Journal {
    /// Begins a file. It and its name are on disk when this returns.
    pub(super) fn begin(folder: &Path, number: u64) -> io::Result<Self> {
        let file = File::create_new(file_name(folder, number))?;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&number.to_le_bytes());
        file.write_all_at(&header, 0)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(Self { folder: folder.to_owned(), number, file, end: FILE_HEADER })
    }

    /// The file's number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// How large the file is.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Writes a frame and waits until it is on disk. After an error the file is not to be used again: what the kernel
    /// failed to write once it may call written the next time.
    pub(super) fn append(&mut self, frame: &mut Frame) -> io::Result<()> {
        let too_long = || io::Error::other("a frame is too long");
        let rows = frame.0.get(FRAME_HEADER..).unwrap_or_default();
        let len = u32::try_from(rows.len()).map_err(|_| too_long())?;
        let crc = frame_checksum(self.number, self.end, rows);
        let mut header = Vec::with_capacity(FRAME_HEADER);
        header.extend_from_slice(&FRAME.to_le_bytes());
        header.extend_from_slice(&len.to_le_bytes());
        header.extend_from_slice(&crc.to_le_bytes());
        frame.0.get_mut(..FRAME_HEADER).ok_or_else(too_long)?.copy_from_slice(&header);
        self.file.write_all_at(&frame.0, self.end)?;
        self.file.sync_data()?;
        self.end += frame.0.len() as u64;
        Ok(())
    }

    /// Goes on in the next file.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        *self = Self::begin(&self.folder, self.number + 1)?;
        Ok(())
    }
}

/// Removes the files before `number`. That their names are gone need not be durable: the tree remembers the number.
pub(super) fn remove_before(folder: &Path, number: u64) -> io::Result<()> {
    for old in numbers(folder)? {
        if old < number {
            fs::remove_file(file_name(folder, old))?;
        }
    }
    Ok(())
}

/// What reading the journal brought to light.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    /// Frames that were read.
    pub(super) frames: u64,
    /// Damaged stretches, named.
    pub(super) damaged: Vec<String>,
}

/// The rows of a valid frame at `at`, and where it ends.
fn frame_at(bytes: &[u8], number: u64, at: usize) -> Option<(&[u8], usize)> {
    let mut rest = bytes.get(at..)?;
    let header = take(&mut rest, FRAME_HEADER)?;
    let (magic, header) = header.split_first_chunk::<4>()?;
    let (len, header) = header.split_first_chunk::<4>()?;
    let (crc, _) = header.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*magic) != FRAME {
        return None;
    }
    let rows = take(&mut rest, u32::from_le_bytes(*len) as usize)?;
    if frame_checksum(number, at as u64, rows) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some((rows, at + FRAME_HEADER + rows.len()))
}

fn rows_of(mut rows: &[u8], visit: &mut dyn FnMut(Key, Option<Bytes>)) -> Option<()> {
    while !rows.is_empty() {
        let len = read_length(&mut rows)?;
        let key = take(&mut rows, len)?;
        let value = match read_length(&mut rows)? {
            0 => None,
            len => Some(Bytes::copy_from_slice(take(&mut rows, len - 1)?)),
        };
        visit(key.into(), value);
    }
    Some(())
}

/// Reads the files from `number` on, in order, and cuts the torn end off the last one.
pub(super) fn replay(
    folder: &Path,
    number: u64,
    aside: &Path,
    visit: &mut dyn FnMut(Key, Option<Bytes>),
) -> io::Result<Replayed> {
    let mut replayed = Replayed::default();
    let all: Vec<u64> = numbers(folder)?.into_iter().filter(|&n| n >= number).collect();
    for (index, &number) in all.iter().enumerate() {
        let is_last = index + 1 == all.len();
        let path = file_name(folder, number);
        let bytes = fs::read(&path)?;
        let header_fits =
            bytes.get(..8) == Some(&MAGIC[..]) && bytes.get(8..16) == Some(&number.to_le_bytes()[..]);
        if !header_fits && is_last && bytes.len() <= FILE_HEADER as usize {
            // Begun, and not on disk before the power went: nothing was ever written behind it.
            fs::remove_file(&path)?;
            File::open(folder)?.sync_all()?;
            break;
        }
        let mut damaged = !header_fits;
        if damaged {
            replayed.damaged.push(format!("journal {number:016x}: the header is damaged"));
        }
        let mut at = FILE_HEADER as usize;
        while at < bytes.len() {
            if let Some((rows, end)) = frame_at(&bytes, number, at) {
                if rows_of(rows, visit).is_none() {
                    damaged = true;
                    replayed.damaged.push(format!("journal {number:016x}: the frame at {at} has no rows"));
                }
                replayed.frames += 1;
                at = end;
                continue;
            }
            let next = (at + 1..bytes.len()).find(|&next| frame_at(&bytes, number, next).is_some());
            match next {
                None if is_last => {
                    tracing::warn!(file = %path.display(), at, "store: the torn end of the journal is cut off");
                    let file = File::options().write(true).open(&path)?;
                    file.set_len(at as u64)?;
                    file.sync_all()?;
                    break;
                }
                next => {
                    let end = next.unwrap_or(bytes.len());
                    damaged = true;
                    replayed.damaged.push(format!("journal {number:016x}: bytes {at} to {end} are damaged"));
                    at = end;
                }
            }
        }
        if damaged {
            fs::create_dir_all(aside)?;
            fs::copy(&path, aside.join(format!("journal-{number:016x}")))?;
            super::tree::sync_folder(aside)?;
        }
    }
    for what in &replayed.damaged {
        tracing::error!(%what, aside = %aside.display(), "store: a part of the journal was set aside");
    }
    Ok(replayed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, frames: u8) -> PathBuf {
        let mut journal = Journal::begin(folder, 1).unwrap();
        for n in 0..frames {
            let mut frame = Frame::default();
            frame.push(&[b'k', n], Some(&[n; 300]));
            frame.push(b"gone", None);
            journal.append(&mut frame).unwrap();
        }
        file_name(folder, 1)
    }

    fn read(folder: &Path) -> (Vec<u8>, Replayed) {
        let mut seen = Vec::new();
        let replayed = replay(folder, 0, &folder.join("aside"), &mut |key, value| {
            if let Some(value) = value {
                assert_eq!(&*value, &[key[1]; 300]);
                seen.push(key[1]);
            }
        })
        .unwrap();
        (seen, replayed)
    }

    #[test]
    fn a_file_cut_anywhere_gives_whole_frames_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), 4);
        let whole = fs::read(&path).unwrap();
        let frame = (whole.len() - 16) / 4;
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (seen, replayed) = read(dir.path());
            let expected: Vec<u8> = (0..(cut.saturating_sub(16) / frame) as u8).collect();
            assert_eq!(seen, expected, "cut at {cut}");
            assert_eq!(replayed.damaged, Vec::<String>::new(), "cut at {cut}");
            // What is left reads the same again.
            if cut > 16 {
                assert_eq!(read(dir.path()), (seen, replayed), "cut at {cut}, second reading");
            }
        }
    }

    #[test]
    fn a_flipped_bit_loses_no_other_frame_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), 3);
        let whole = fs::read(&path).unwrap();
        let frame = (whole.len() - 16) / 3;
        for byte in 16..16 + frame {
            let mut bad = whole.clone();
            bad[byte] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            let (seen, replayed) = read(dir.path());
            assert_eq!(seen, [1, 2], "byte {byte}");
            assert_eq!(replayed.damaged.len(), 1, "byte {byte}");
            assert!(dir.path().join("aside/journal-0000000000000001").exists());
        }
    }

    #[test]
    fn a_frame_of_another_place_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), 2);
        let mut bytes = fs::read(&path).unwrap();
        let frame = (bytes.len() - 16) / 2;
        bytes.copy_within(16..16 + frame, 16 + frame);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(dir.path()).0, [0]);
    }
}
