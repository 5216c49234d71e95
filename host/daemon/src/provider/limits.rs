//! What a provider may take and say. Everything has a bound; each bound has a guest in the tests that runs into it.

use std::time::Duration;

/// Bounds for one instance and one call. All are ceilings of the host; a provider cannot ask for more. The defaults are those of
/// a configuration that says nothing.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest component file.
    pub component_bytes: u64,
    /// Linear memory of an instance, all its memories together.
    pub memory_bytes: usize,
    /// Table elements of an instance, all its tables together.
    pub table_elements: usize,
    /// CPU time of a call, before what its input adds.
    pub deadline: Duration,
    /// CPU time that each KiB of input adds.
    pub deadline_per_kib: Duration,
    /// CPU time of each of instantiating, describing and configuring while a version or a connection is admitted.
    pub deadline_of_admission: Duration,
    /// CPU time of each of instantiating and configuring in a lane, where others wait.
    pub deadline_of_instance: Duration,
    /// A call is also stopped when it has taken so many times its CPU deadline by the clock on the wall.
    pub wall_factor: u32,
    /// Everything that one call copies out of the sandbox.
    pub copied_bytes: usize,
    /// A document, facts, or a descriptor.
    pub document_bytes: usize,
    /// The body of a request.
    pub request_body_bytes: usize,
    /// A note.
    pub note_bytes: usize,
    /// A note of `changes` and `walk`.
    pub listing_note_bytes: usize,
    /// A cursor, or a channel's state.
    pub cursor_bytes: usize,
    /// What is kept on a link.
    pub keep_bytes: usize,
    /// Rows of an answer, problems, quotas.
    pub rows: usize,
    /// An id, a word, a header, a path.
    pub text_bytes: usize,
    /// One line in the log; the rest is cut off.
    pub log_line_bytes: usize,
    /// Log bytes at once; as much again comes back each minute. The rest is dropped and counted.
    pub log_bytes: usize,
    /// The end of stderr that is kept.
    pub stderr_bytes: usize,
    /// Calls after which an instance is replaced, give or take a quarter.
    pub calls: u32,
    /// Share of its memory above which an instance is replaced after a visit, in percent.
    pub memory_mark_percent: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component_bytes: 64 << 20,
            memory_bytes: 32 << 20,
            table_elements: 65_536,
            deadline: Duration::from_millis(100),
            deadline_per_kib: Duration::from_micros(100),
            deadline_of_admission: Duration::from_secs(2),
            deadline_of_instance: Duration::from_millis(250),
            wall_factor: 20,
            copied_bytes: 32 << 20,
            document_bytes: 256 << 10,
            request_body_bytes: 8 << 20,
            note_bytes: 64 << 10,
            listing_note_bytes: 1 << 20,
            cursor_bytes: 64 << 10,
            keep_bytes: 16 << 10,
            rows: 10_000,
            text_bytes: 16 << 10,
            log_line_bytes: 4 << 10,
            log_bytes: 64 << 10,
            stderr_bytes: 4 << 10,
            calls: 100_000,
            memory_mark_percent: 75,
        }
    }
}

impl Limits {
    /// CPU time of a call with so much input.
    pub(super) fn deadline_for(&self, input_bytes: usize) -> Duration {
        let kib = u32::try_from(input_bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.deadline.saturating_add(self.deadline_per_kib.saturating_mul(kib))
    }

    /// Memory above which an instance is replaced.
    pub(super) fn memory_mark(&self) -> usize {
        self.memory_bytes / 100 * usize::from(self.memory_mark_percent)
    }
}
