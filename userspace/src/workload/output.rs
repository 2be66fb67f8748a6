//! The output of a run: passed on as it comes, and remembered well enough to compare two runs.

use std::{
    hash::{DefaultHasher, Hasher as _},
    io::Write as _,
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How much of a stream is kept to show where two differ.
const HEAD: usize = 64 * 1024;

/// One stream: its length, a hash of all of it, and its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Bytes.
    pub length: u64,
    hash: u64,
    head: Vec<u8>,
}

/// Standard output and standard error of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
}

impl Stream {
    /// The first line in which two streams differ, when it is within what was kept.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> Option<(String, String)> {
        let lines = |stream: &Self| -> Vec<String> {
            stream
                .head
                .split(|&byte| byte == b'\n')
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect()
        };
        let (mine, theirs) = (lines(self), lines(other));
        let length = mine.len().max(theirs.len());
        (0..length).find_map(|index| {
            let mine = mine.get(index).cloned().unwrap_or_default();
            let theirs = theirs.get(index).cloned().unwrap_or_default();
            (mine != theirs).then_some((mine, theirs))
        })
    }

    /// What was kept of it.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }
}

/// Reads a stream to its end, passing it on to standard error: standard output is for our own result.
pub(super) async fn drain(reader: Option<impl AsyncRead + Unpin>, pass_on: bool) -> Stream {
    let mut stream = Stream::default();
    let Some(mut reader) = reader else { return stream };
    let mut hasher = DefaultHasher::new();
    let mut buffer = bytes::BytesMut::with_capacity(16 * 1024);
    while let Ok(length @ 1..) = reader.read_buf(&mut buffer).await {
        stream.length += length as u64;
        hasher.write(&buffer);
        let room = HEAD.saturating_sub(stream.head.len());
        stream.head.extend_from_slice(&buffer[..buffer.len().min(room)]);
        if pass_on {
            // Nobody to read it is no reason to stop the workload.
            drop(std::io::stderr().write_all(&buffer));
        }
        buffer.clear();
    }
    stream.hash = hasher.finish();
    stream
}
