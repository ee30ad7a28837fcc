//! `/containerLogs`: a container's log file, filtered, followed across rotation until the container ends.

use std::convert::Infallible;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;
use pintle_kubelet_plan::containers::{name, namespace};
use pintle_kubelet_plan::logs::{Line, LogOptions};
use tokio::sync::mpsc;

use super::routes::Found;
use super::{Body, stream as streams, text};
use crate::context::Context;
use crate::error::{At as _, FileError, chain};
use crate::manager::Pods;
use crate::worker::blocking;

const CHUNK: usize = 64 << 10;

/// Answers with the log asked for.
pub(super) async fn answer(request: &Request<Incoming>, ctx: Arc<Context>, pods: Pods, found: Found) -> Response<Body> {
    let pairs = streams::query(request.uri());
    let options = match LogOptions::from_query(&pairs, Timestamp::now()) {
        Ok(options) => options,
        Err(e) => return text(StatusCode::BAD_REQUEST, format!("{e}\n")),
    };
    let waiting = || {
        let pod = name(&found.view.pod);
        text(
            StatusCode::BAD_REQUEST,
            format!("container \"{}\" in pod \"{pod}\" is waiting to start: ContainerCreating", found.name),
        )
    };
    let attempt = match (&found.container, options.previous) {
        (None, _) => return waiting(),
        (Some(container), false) => container.attempt,
        (Some(container), true) => match container.previous_attempt {
            Some(attempt) => attempt,
            None => {
                let (pod, space) = (name(&found.view.pod), namespace(&found.view.pod));
                let why = format!(
                    "previous terminated container \"{}\" in pod \"{pod}\" not found in namespace \"{space}\"",
                    found.name
                );
                return text(StatusCode::BAD_REQUEST, why);
            }
        },
    };
    let dir = crate::worker::log_dir(&found.view.pod);
    let path = ctx.config.dirs.log_file(&dir, &found.name, attempt);
    let (sender, receiver) = mpsc::channel::<Bytes>(8);
    let job = Job { ctx, pods, found, attempt, path, options, sender };
    tokio::spawn(Box::pin(async move {
        if let Err(e) = job.run().await {
            tracing::debug!(error = chain(&e), "cannot read a container's log");
        }
    }));
    let body = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    let mut answer = text(StatusCode::OK, "");
    *answer.body_mut() = StreamBody::new(body).boxed_unsync();
    answer
}

struct Job {
    ctx: Arc<Context>,
    pods: Pods,
    found: Found,
    attempt: u32,
    path: PathBuf,
    options: LogOptions,
    sender: mpsc::Sender<Bytes>,
}

/// An open log and what has been read of its last line.
struct Reader {
    file: std::fs::File,
    rest: Vec<u8>,
}

impl Job {
    async fn run(self) -> Result<(), FileError> {
        let watch = if self.options.follow { Some(self.ctx.watcher.watch(&self.path)?) } else { None };
        let (path, tail) = (self.path.clone(), self.options.tail_lines);
        let mut reader = blocking(move || open(&path, tail)).await?;
        let mut room = self.options.bytes_max.unwrap_or(u64::MAX);
        let mut watch = watch;
        loop {
            let running = self.running();
            let (back, bytes) = blocking(move || read_some(reader)).await;
            reader = back;
            let bytes = bytes.at("read", &self.path)?;
            if !bytes.is_empty() {
                if !self.send(&mut reader, &bytes, &mut room).await {
                    return Ok(());
                }
                continue;
            }
            let Some(current) = &watch else { return Ok(()) };
            if rotated(&reader.file, &self.path) {
                let path = self.path.clone();
                let rest = std::mem::take(&mut reader.rest);
                reader = blocking(move || open(&path, None)).await?;
                reader.rest = rest;
                watch = Some(self.ctx.watcher.watch(&self.path)?);
                continue;
            }
            if !running {
                return Ok(());
            }
            tokio::select! {
                () = current.changed() => {}
                () = self.ended() => {}
                () = self.sender.closed() => return Ok(()),
            }
        }
    }

    fn running(&self) -> bool {
        let view = self.pods.find(namespace(&self.found.view.pod), name(&self.found.view.pod));
        let container = view.and_then(|v| v.containers.get(&self.found.name).cloned());
        container.is_some_and(|c| c.attempt == self.attempt && c.running)
    }

    /// Waits until the container no longer runs.
    async fn ended(&self) {
        let Some(mut view) = self.pods.watch(&self.found.view.pod) else { return };
        // The pod's task may end too; then the container has.
        let _ = view
            .wait_for(|v| v.containers.get(&self.found.name).is_none_or(|c| c.attempt != self.attempt || !c.running))
            .await;
    }

    /// Sends what the options keep of new bytes; `false` when the reader has enough.
    async fn send(&self, reader: &mut Reader, bytes: &[u8], room: &mut u64) -> bool {
        reader.rest.extend_from_slice(bytes);
        let Some(end) = reader.rest.iter().rposition(|b| *b == b'\n') else { return true };
        let mut out = Vec::new();
        for line in reader.rest[..end].split(|b| *b == b'\n') {
            out.extend(Line::parse(line).and_then(|l| self.options.render(&l)).unwrap_or_default());
        }
        reader.rest.drain(..=end);
        let full = out.len() as u64 >= *room;
        out.truncate(usize::try_from(*room).unwrap_or(usize::MAX));
        *room -= out.len() as u64;
        let sent = out.is_empty() || self.sender.send(out.into()).await.is_ok();
        sent && !full
    }
}

fn open(path: &Path, tail: Option<u64>) -> Result<Reader, FileError> {
    let mut file = std::fs::File::open(path).at("open", path)?;
    if let Some(lines) = tail {
        let start = tail_start(&mut file, lines).at("read", path)?;
        file.seek(SeekFrom::Start(start)).at("read", path)?;
    }
    Ok(Reader { file, rest: Vec::new() })
}

fn read_some(mut reader: Reader) -> (Reader, std::io::Result<Vec<u8>>) {
    let mut chunk = vec![0; CHUNK];
    let read = reader.file.read(&mut chunk).map(|count| {
        chunk.truncate(count);
        chunk
    });
    (reader, read)
}

fn rotated(file: &std::fs::File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() != named.ino(),
        _ => false,
    }
}

/// Where the last `lines` lines begin.
fn tail_start(file: &mut std::fs::File, lines: u64) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let size = end;
    let mut newlines = 0;
    let mut chunk = vec![0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        file.seek(SeekFrom::Start(start))?;
        let part = &mut chunk[..usize::try_from(end - start).unwrap_or(CHUNK)];
        file.read_exact(part)?;
        for (at, _) in part.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let position = start + at as u64;
            // The newline at the very end closes the last line, it does not begin another.
            if position + 1 != size {
                newlines += 1;
            }
            if newlines >= lines && (position + 1 != size || lines == 0) {
                return Ok(position + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        for (text, lines, rest) in [
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nb\nc", 1, "c"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let start = usize::try_from(tail_start(&mut file, lines).unwrap()).unwrap();
            assert_eq!(&text[start..], rest, "{text:?} {lines}");
        }
    }
}
