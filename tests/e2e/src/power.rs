//! What a disk may hold after the power went: rebuilt from the recording of `tests/shim/shim.c`.
//!
//! The model: what was written to a file is on disk for sure when a sync of that file began afterwards and ended well; a name
//! is, when a sync of its folder did. Everything else may be there, may be missing, or may be there in part, in sectors of 512
//! bytes. `sync_file_range` guarantees nothing. Changes of names reach the disk in order, since file systems
//! journal them; writes in any order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the shim into a folder and says where it is.
///
/// # Errors
///
/// There is no `cc`, or it refuses the source.
pub fn compile_shim(source: &Path, into: &Path) -> io::Result<PathBuf> {
    let library = into.join("shim.so");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .args([&library, &source.to_owned()])
        .args(["-ldl", "-lpthread"])
        .status()?;
    if status.success() { Ok(library) } else { Err(io::Error::other(format!("cc: {status}"))) }
}

/// A temporary file system proves nothing about disks.
///
/// # Errors
///
/// The folder is on one, or cannot be looked at.
pub fn refuse_tmpfs(folder: &Path) -> io::Result<()> {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    let kind = rustix::fs::statfs(folder)?.f_type as i64;
    if kind == TMPFS || kind == RAMFS {
        return Err(io::Error::other(format!(
            "{} is in memory: a power-loss test needs a real disk (set TMPDIR)",
            folder.display()
        )));
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Event {
    Create { inode: u64, path: PathBuf },
    Write { inode: u64, offset: u64, data: Vec<u8> },
    Truncate { inode: u64, len: u64 },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    MakeFolder { path: PathBuf },
    SyncBegin { number: u64 },
    SyncEnd { inode: u64, begun: u64, path: PathBuf, folder: bool, worked: bool },
    Acknowledged { data: Vec<u8> },
    Sent { socket: u64, head: Vec<u8> },
    Left { socket: u64, bytes: u64 },
    Received { socket: u64, data: Vec<u8> },
    Closed { socket: u64 },
    Other,
}

/// Bytes that left: an acknowledgement, and where in the recording it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Position in the recording.
    pub at: usize,
    /// What was said.
    pub data: Vec<u8>,
}

/// What happened on a socket (recorded with `TANDEM_SHIM_TALK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk<'a> {
    /// These bytes left; the position is that before they did.
    Sent(&'a [u8]),
    /// These bytes came.
    Received(&'a [u8]),
    /// It ended; its descriptor may be another one's from here on.
    Closed,
}

/// A write, and since when it was on disk for sure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<'a> {
    /// Position in the recording.
    pub at: usize,
    /// The file, as it was called at last.
    pub path: std::sync::Arc<Path>,
    /// The bytes.
    pub data: &'a [u8],
    /// From this position on no loss of power takes the write away: a sync of its file that began afterwards ended well, and
    /// so did one for each name on the way to the file. None: that never came.
    pub sure: Option<usize>,
}

/// What the shim wrote down.
#[derive(Debug, Default)]
pub struct Recording {
    root: PathBuf,
    events: Vec<Event>,
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn number<const N: usize>(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes.get_mut(..N)?.copy_from_slice(self.take(N)?);
        Some(u64::from_le_bytes(bytes))
    }
}

fn parse(cursor: &mut Cursor<'_>) -> Option<Event> {
    if cursor.take(4)? != b"TSHM" {
        return None;
    }
    let number = cursor.number::<8>()?;
    let kind = cursor.number::<1>()?;
    let flags = cursor.number::<1>()?;
    let (path_len, second_len) = (cursor.number::<2>()? as usize, cursor.number::<2>()? as usize);
    let error = cursor.number::<4>()?;
    let inode = cursor.number::<8>()?;
    let offset = cursor.number::<8>()?;
    let len = cursor.number::<4>()? as usize;
    let path = |bytes: &[u8]| PathBuf::from(String::from_utf8_lossy(bytes).into_owned());
    let first = path(cursor.take(path_len)?);
    let second = path(cursor.take(second_len)?);
    let data = cursor.take(len)?.to_vec();
    let (is_folder, is_ignored) = (flags & 1 != 0, flags & 4 != 0);
    Some(match kind {
        1 => Event::Create { inode, path: first },
        2 => Event::Write { inode, offset, data },
        3 => Event::Truncate { inode, len: offset },
        4 => Event::Rename { from: first, to: second },
        5 | 7 => Event::Remove { path: first },
        6 => Event::MakeFolder { path: first },
        8 => Event::SyncBegin { number },
        9 => Event::SyncEnd {
            inode,
            begun: offset,
            path: first,
            folder: is_folder,
            worked: error == 0 && !is_ignored,
        },
        11 => Event::Acknowledged { data },
        12 => Event::Sent { socket: offset, head: data },
        13 => Event::Received { socket: offset, data },
        14 => Event::Closed { socket: offset },
        15 => Event::Left { socket: offset, bytes: inode },
        _ => Event::Other,
    })
}

/// What of the unsynced is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// The first ones, and a part of the one after them.
    Torn(u64),
    /// Any of them, some in part.
    Some(u64),
    /// Everything: what `SIGKILL` leaves.
    Everything,
}

/// xorshift64*: enough to choose by, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % sides.max(1)
    }
}

/// A disk's contents.
#[derive(Clone, Debug, Default)]
pub struct Image {
    files: BTreeMap<PathBuf, Vec<u8>>,
    folders: BTreeSet<PathBuf>,
}

#[derive(Default)]
struct FileLog {
    /// Positions of its writes and truncations.
    changes: Vec<usize>,
    /// Those before this position are on disk.
    synced: usize,
}

impl Recording {
    /// Reads a recording; `root` is the folder that the shim watched. A line that was being written when the process died
    /// ends it.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(log: &Path, root: &Path) -> io::Result<Self> {
        let bytes = fs::read(log)?;
        let mut cursor = Cursor(&bytes);
        let mut events = Vec::new();
        let mut last_sent: HashMap<u64, usize> = HashMap::new();
        while let Some(event) = parse(&mut cursor) {
            match &event {
                Event::Sent { socket, .. } => {
                    last_sent.insert(*socket, events.len());
                }
                // What did not leave was not said: it is sent again.
                Event::Left { socket, bytes } => {
                    let sent = last_sent.remove(socket).and_then(|at| events.get_mut(at));
                    if let Some(Event::Sent { head, .. }) = sent {
                        head.truncate(usize::try_from(*bytes).unwrap_or(usize::MAX));
                    }
                }
                _ => {}
            }
            events.push(event);
        }
        Ok(Self { root: root.canonicalize()?, events })
    }

    /// How many lines it has: the positions that an image can be taken at are 0 to this.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// It has no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What was acknowledged through the file `ack-marker` before a position.
    pub fn acknowledged(&self, before: usize) -> impl Iterator<Item = Acknowledged> + '_ {
        self.events.iter().take(before).enumerate().filter_map(|(at, event)| match event {
            Event::Acknowledged { data } => Some(Acknowledged { at, data: data.clone() }),
            _ => None,
        })
    }

    /// The first bytes of what was sent through sockets: (position, descriptor, up to 64 bytes).
    pub fn sent(&self) -> impl Iterator<Item = (usize, u64, &[u8])> + '_ {
        self.events.iter().enumerate().filter_map(|(at, event)| match event {
            Event::Sent { socket, head } => Some((at, *socket, head.as_slice())),
            _ => None,
        })
    }

    /// What was said on sockets: (position, descriptor, what).
    pub fn talk(&self) -> impl Iterator<Item = (usize, u64, Talk<'_>)> + '_ {
        self.events.iter().enumerate().filter_map(|(at, event)| match event {
            Event::Sent { socket, head } => Some((at, *socket, Talk::Sent(head))),
            Event::Received { socket, data } => Some((at, *socket, Talk::Received(data))),
            Event::Closed { socket } => Some((at, *socket, Talk::Closed)),
            _ => None,
        })
    }

    /// Every write, and since when it was on disk for sure.
    #[must_use]
    pub fn writes(&self) -> Vec<Written<'_>> {
        #[derive(Default)]
        struct File {
            path: PathBuf,
            /// The changes of names that it depends on, by their place in `names`.
            names: Vec<usize>,
            /// Writes that no sync has covered yet, by their place in `writes`.
            open: Vec<usize>,
        }
        struct Name {
            at: usize,
            folder: PathBuf,
            sure: Option<usize>,
        }
        let mut files: Vec<File> = Vec::new();
        let mut by_inode: HashMap<u64, usize> = HashMap::new();
        let mut names: Vec<Name> = Vec::new();
        let mut made: HashMap<PathBuf, usize> = HashMap::new();
        let mut begun_at: HashMap<u64, usize> = HashMap::new();
        // (position, bytes, file, covered by a sync that ended at)
        let mut writes: Vec<(usize, &[u8], usize, Option<usize>)> = Vec::new();
        let named = |at: usize, path: &Path| Name {
            at,
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
            sure: None,
        };
        for (position, event) in self.events.iter().enumerate() {
            match event {
                Event::MakeFolder { path } => {
                    made.insert(path.clone(), names.len());
                    names.push(named(position, path));
                }
                Event::Create { inode, path } => {
                    let mut depends: Vec<usize> =
                        path.ancestors().filter_map(|above| made.get(above).copied()).collect();
                    depends.push(names.len());
                    names.push(named(position, path));
                    by_inode.insert(*inode, files.len());
                    files.push(File { path: path.clone(), names: depends, open: Vec::new() });
                }
                Event::Rename { from, to } => {
                    for file in files.iter_mut().filter(|file| file.path.starts_with(from)) {
                        let rest = file.path.strip_prefix(from).map(Path::to_owned).unwrap_or_default();
                        file.path = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                        file.names.push(names.len());
                    }
                    names.push(named(position, to));
                }
                Event::Write { inode, data, .. } => {
                    let number = *by_inode.entry(*inode).or_insert_with(|| {
                        files.push(File::default());
                        files.len() - 1
                    });
                    if let Some(file) = files.get_mut(number) {
                        file.open.push(writes.len());
                    }
                    writes.push((position, data, number, None));
                }
                Event::SyncBegin { number } => {
                    begun_at.insert(*number, position);
                }
                Event::SyncEnd { inode, begun, path, folder, worked: true } => {
                    let Some(&begun) = begun_at.get(begun) else { continue };
                    if *folder {
                        for name in &mut names {
                            if name.sure.is_none() && name.at < begun && name.folder == *path {
                                name.sure = Some(position);
                            }
                        }
                    } else if let Some(file) = by_inode.get(inode).and_then(|file| files.get_mut(*file)) {
                        file.open.retain(|write| match writes.get_mut(*write) {
                            Some((at, .., covered)) if *at < begun => {
                                *covered = Some(position);
                                false
                            }
                            _ => true,
                        });
                    }
                }
                _ => {}
            }
        }
        let known: Vec<(std::sync::Arc<Path>, Option<usize>)> = files
            .into_iter()
            .map(|file| {
                let sure = file.names.iter().try_fold(0, |last: usize, name| {
                    names.get(*name).and_then(|name| name.sure).map(|sure| last.max(sure))
                });
                (file.path.into(), sure)
            })
            .collect();
        writes
            .into_iter()
            .filter_map(|(at, data, file, covered)| {
                let (path, named) = known.get(file)?;
                let sure = covered.zip(*named).map(|(one, other)| one.max(other));
                Some(Written { at, path: path.clone(), data, sure })
            })
            .collect()
    }

    /// How many syncs ended well.
    #[must_use]
    pub fn syncs(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::SyncEnd { worked: true, .. })).count()
    }

    /// What a disk may hold when the power goes at a position.
    #[must_use]
    pub fn image(&self, at: usize, keep: Keep) -> Image {
        let events = self.events.get(..at).unwrap_or(&self.events);
        let mut files: Vec<FileLog> = Vec::new();
        let mut by_inode: HashMap<u64, usize> = HashMap::new();
        let mut created: HashMap<usize, usize> = HashMap::new();
        // Changes of names: (position, folder, on disk for sure).
        let mut names: Vec<(usize, PathBuf, bool)> = Vec::new();
        let mut begun_at: HashMap<u64, usize> = HashMap::new();
        let folder_of = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
        for (position, event) in events.iter().enumerate() {
            match event {
                Event::Create { inode, path } => {
                    // The number of a removed file may be given to a new one.
                    files.push(FileLog::default());
                    by_inode.insert(*inode, files.len() - 1);
                    created.insert(position, files.len() - 1);
                    names.push((position, folder_of(path), false));
                }
                Event::Write { inode, .. } | Event::Truncate { inode, .. } => {
                    let file = *by_inode.entry(*inode).or_insert_with(|| {
                        files.push(FileLog::default());
                        files.len() - 1
                    });
                    if let Some(file) = files.get_mut(file) {
                        file.changes.push(position);
                    }
                }
                Event::Rename { to: path, .. } | Event::Remove { path } | Event::MakeFolder { path } => {
                    names.push((position, folder_of(path), false));
                }
                Event::SyncBegin { number } => {
                    begun_at.insert(*number, position);
                }
                Event::SyncEnd { inode, begun, path, folder, worked: true } => {
                    let Some(&begun) = begun_at.get(begun) else { continue };
                    if *folder {
                        for (changed, at, durable) in &mut names {
                            *durable |= *changed < begun && at == path;
                        }
                    } else if let Some(file) = by_inode.get(inode).and_then(|file| files.get_mut(*file)) {
                        file.synced = file.synced.max(begun);
                    }
                }
                Event::SyncEnd { .. }
                | Event::Acknowledged { .. }
                | Event::Sent { .. }
                | Event::Left { .. }
                | Event::Received { .. }
                | Event::Closed { .. }
                | Event::Other => {}
            }
        }
        let mut dice = Dice(match keep {
            Keep::Torn(seed) | Keep::Some(seed) => seed.wrapping_mul(2).wrapping_add(1),
            Keep::Nothing | Keep::Everything => 1,
        });
        let contents = self.contents(&files, keep, &mut dice);
        let names = kept_names(&names, keep, &mut dice);
        self.lay_out(&names, &created, &contents)
    }

    /// The bytes of each file.
    fn contents(&self, files: &[FileLog], keep: Keep, dice: &mut Dice) -> Vec<Vec<u8>> {
        // For a torn prefix: everything before one position, over all files.
        let mut open: Vec<usize> = files
            .iter()
            .flat_map(|file| file.changes.iter().copied().filter(|change| *change >= file.synced))
            .collect();
        open.sort_unstable();
        let tear = match keep {
            Keep::Torn(_) => {
                let chosen = dice.roll(open.len() as u64 + 1) as usize;
                // The last one written is the likeliest to be under way.
                let last = dice.roll(2) == 0;
                if last { open.last().copied() } else { open.get(chosen).copied() }
            }
            _ => None,
        };
        let mut all = Vec::with_capacity(files.len());
        for file in files {
            let mut bytes = Vec::new();
            for &change in &file.changes {
                let part = if change < file.synced {
                    Part::Whole
                } else {
                    match keep {
                        Keep::Nothing => Part::Nothing,
                        Keep::Everything => Part::Whole,
                        Keep::Torn(_) => match tear {
                            Some(tear) if change > tear => Part::Nothing,
                            Some(tear) if change == tear => Part::Front,
                            _ => Part::Whole,
                        },
                        Keep::Some(_) => match dice.roll(4) {
                            0 => Part::Nothing,
                            1 => Part::Front,
                            2 => Part::Sectors,
                            _ => Part::Whole,
                        },
                    }
                };
                if let Some(event) = self.events.get(change) {
                    apply(&mut bytes, event, part, dice);
                }
            }
            all.push(bytes);
        }
        all
    }

    fn lay_out(&self, names: &[usize], created: &HashMap<usize, usize>, contents: &[Vec<u8>]) -> Image {
        let mut at: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut folders: BTreeSet<PathBuf> = [self.root.clone()].into();
        for &position in names {
            match self.events.get(position) {
                Some(Event::Create { path, .. }) => {
                    if let Some(file) = created.get(&position) {
                        at.insert(path.clone(), *file);
                    }
                }
                Some(Event::Rename { from, to }) => {
                    let moved: Vec<_> = at.keys().filter(|path| path.starts_with(from)).cloned().collect();
                    for path in moved {
                        if let (Some(file), Ok(rest)) = (at.remove(&path), path.strip_prefix(from)) {
                            let target = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                            at.insert(target, file);
                        }
                    }
                    let moved: Vec<_> =
                        folders.iter().filter(|path| path.starts_with(from)).cloned().collect();
                    for path in moved {
                        folders.remove(&path);
                        if let Ok(rest) = path.strip_prefix(from) {
                            folders.insert(if rest.as_os_str().is_empty() {
                                to.clone()
                            } else {
                                to.join(rest)
                            });
                        }
                    }
                }
                Some(Event::Remove { path }) => {
                    at.remove(path);
                    folders.remove(path);
                }
                Some(Event::MakeFolder { path }) => {
                    folders.insert(path.clone());
                }
                _ => {}
            }
        }
        let below = |path: &Path| path.strip_prefix(&self.root).map(Path::to_owned).ok();
        let reachable = |path: &Path| {
            let mut above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
            above.all(|folder| folders.contains(folder))
        };
        Image {
            files: at
                .iter()
                .filter(|(path, _)| reachable(path))
                .filter_map(|(path, file)| Some((below(path)?, contents.get(*file)?.clone())))
                .collect(),
            folders: folders.iter().filter(|path| reachable(path)).filter_map(|path| below(path)).collect(),
        }
    }
}

/// How much of a change reached the disk.
#[derive(Clone, Copy)]
enum Part {
    Nothing,
    Front,
    Sectors,
    Whole,
}

const SECTOR: usize = 512;

fn apply(bytes: &mut Vec<u8>, event: &Event, part: Part, dice: &mut Dice) {
    match event {
        Event::Truncate { len, .. } => {
            if matches!(part, Part::Whole) {
                bytes.resize(*len as usize, 0);
            }
        }
        Event::Write { offset, data, .. } => {
            let (from, end) = (*offset as usize, *offset as usize + data.len());
            let keep = match part {
                Part::Nothing => return,
                Part::Front => dice.roll(data.len() as u64) as usize / SECTOR * SECTOR,
                Part::Sectors | Part::Whole => data.len(),
            };
            if bytes.len() < end && keep > 0 {
                bytes.resize(if matches!(part, Part::Front) { from + keep } else { end }.max(bytes.len()), 0);
            }
            let mut at = 0;
            while at < keep {
                // Sectors are those of the disk, not of the write.
                let next = ((from + at) / SECTOR * SECTOR + SECTOR - from).min(keep);
                let is_kept = !matches!(part, Part::Sectors) || dice.roll(2) == 0;
                if is_kept
                    && let (Some(to), Some(piece)) =
                        (bytes.get_mut(from + at..from + next), data.get(at..next))
                {
                    to.copy_from_slice(piece);
                }
                at = next;
            }
        }
        _ => {}
    }
}

/// The positions of the changes of names that are on disk, in order.
fn kept_names(names: &[(usize, PathBuf, bool)], keep: Keep, dice: &mut Dice) -> Vec<usize> {
    let open = names.iter().filter(|(_, _, durable)| !durable).count() as u64;
    let mut kept_open = match keep {
        Keep::Nothing => 0,
        Keep::Everything => open,
        Keep::Torn(_) | Keep::Some(_) => dice.roll(open + 1),
    };
    let mut kept = Vec::new();
    for (position, _, durable) in names {
        if *durable {
            kept.push(*position);
        } else if kept_open > 0 {
            kept_open -= 1;
            kept.push(*position);
        }
    }
    kept
}

impl Image {
    /// Writes the image into an empty folder.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write_to(&self, folder: &Path) -> io::Result<()> {
        for path in &self.folders {
            fs::create_dir_all(folder.join(path))?;
        }
        for (path, bytes) in &self.files {
            fs::write(folder.join(path), bytes)?;
        }
        Ok(())
    }

    /// Some file holds these bytes.
    #[must_use]
    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.files
            .values()
            .any(|file| !bytes.is_empty() && file.windows(bytes.len()).any(|window| window == bytes))
    }

    /// A file's contents.
    #[must_use]
    pub fn file(&self, path: &Path) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(events: Vec<Event>) -> Recording {
        let mut all = vec![Event::Create { inode: 1, path: "/d/f".into() }, Event::SyncBegin { number: 1 }];
        all.push(Event::SyncEnd { inode: 9, begun: 1, path: "/d".into(), folder: true, worked: true });
        all.extend(events);
        Recording { root: "/d".into(), events: all }
    }

    fn write(byte: u8, offset: u64) -> Event {
        Event::Write { inode: 1, offset, data: vec![byte; 1024] }
    }

    fn sync(number: u64, worked: bool) -> [Event; 2] {
        [
            Event::SyncBegin { number },
            Event::SyncEnd { inode: 1, begun: number, path: "/d/f".into(), folder: false, worked },
        ]
    }

    fn at_end(recording: &Recording, keep: Keep) -> Vec<u8> {
        recording.image(recording.len(), keep).file(Path::new("f")).unwrap().to_vec()
    }

    #[test]
    fn only_what_was_synced_is_sure() {
        let [begin, end] = sync(2, true);
        // A write between the beginning of a sync and its end is not covered.
        let recording = recording(vec![write(1, 0), begin, write(2, 1024), end, write(3, 2048)]);
        assert_eq!(at_end(&recording, Keep::Nothing), vec![1; 1024]);
        assert_eq!(at_end(&recording, Keep::Everything).len(), 3072);
        for seed in 0..50 {
            assert_eq!(at_end(&recording, Keep::Some(seed)).get(..1024), Some(&[1; 1024][..]));
            assert_eq!(at_end(&recording, Keep::Torn(seed)).get(..1024), Some(&[1; 1024][..]));
        }
    }

    #[test]
    fn a_failed_sync_and_a_sync_under_way_cover_nothing() {
        let [begin, end] = sync(2, false);
        assert_eq!(at_end(&recording(vec![write(1, 0), begin, end]), Keep::Nothing), Vec::<u8>::new());
        let [begin, _] = sync(2, true);
        assert_eq!(at_end(&recording(vec![write(1, 0), begin]), Keep::Nothing), Vec::<u8>::new());
    }

    #[test]
    fn a_name_needs_a_sync_of_its_folder() {
        let [begin, end] = sync(2, true);
        let renamed = Event::Rename { from: "/d/f".into(), to: "/d/g".into() };
        let recording = recording(vec![write(1, 0), begin, end, renamed]);
        let image = recording.image(recording.len(), Keep::Nothing);
        assert!(image.file(Path::new("f")).is_some() && image.file(Path::new("g")).is_none());
        let image = recording.image(recording.len(), Keep::Everything);
        assert!(image.file(Path::new("g")).is_some() && image.file(Path::new("f")).is_none());
        assert!(image.contains(&[1; 64]) && !image.contains(b"other"));
    }

    #[test]
    fn a_write_is_sure_once_a_later_sync_ended_and_its_name_is() {
        let sure =
            |recording: &Recording| recording.writes().iter().map(|write| write.sure).collect::<Vec<_>>();
        let [begin, end] = sync(2, true);
        let recording = recording(vec![write(1, 0), begin, write(2, 1024), end]);
        assert_eq!(sure(&recording), [Some(6), None]);
        // The same without a sync of the folder.
        let mut unnamed = Recording { root: "/d".into(), events: recording.events.clone() };
        unnamed.events.retain(|event| !matches!(event, Event::SyncEnd { folder: true, .. }));
        assert_eq!(sure(&unnamed), [None, None]);
    }

    #[test]
    fn what_did_not_leave_was_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut bytes = Vec::new();
        let mut line = |kind: u8, inode: u64, data: &[u8]| {
            bytes.extend_from_slice(b"TSHM");
            bytes.extend_from_slice(&0_u64.to_le_bytes());
            bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend_from_slice(&inode.to_le_bytes());
            bytes.extend_from_slice(&7_u64.to_le_bytes());
            bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
            bytes.extend_from_slice(data);
        };
        line(12, 0, b"whole");
        line(15, 2, b"");
        line(12, 0, b"ole");
        line(15, 3, b"");
        line(13, 0, b"came");
        line(14, 0, b"");
        fs::write(&log, bytes).unwrap();
        let recording = Recording::read(&log, dir.path()).unwrap();
        let talk: Vec<_> = recording.talk().collect();
        let expected = [
            (0, 7, Talk::Sent(&b"wh"[..])),
            (2, 7, Talk::Sent(b"ole")),
            (4, 7, Talk::Received(b"came")),
            (5, 7, Talk::Closed),
        ];
        assert_eq!(talk, expected);
    }

    #[test]
    fn writes_are_torn_between_sectors() {
        let recording = recording(vec![write(1, 256)]);
        let lengths: BTreeSet<usize> = (0..40)
            .map(|seed| at_end(&recording, Keep::Torn(seed)).iter().filter(|byte| **byte == 1).count())
            .collect();
        assert!(lengths.len() > 1 && lengths.iter().all(|len| len % 512 == 0), "{lengths:?}");
    }
}
