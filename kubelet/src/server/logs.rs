//! `/containerLogs`: a container's log file, filtered, followed across rotation until the container ends.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;
use pintle_kubelet_plan::containers::{name, namespace};
use pintle_kubelet_plan::logs::{Line, LogOptions};
use tokio::sync::mpsc;

use super::log_file::{Reader, Successor, open, read_chunk, read_some, successor};
use super::routes::Found;
use super::{Body, stream as streams, text};
use crate::context::Context;
use crate::error::{At as _, FileError, chain};
use crate::manager::Pods;
use crate::worker::blocking;

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
            let path = self.path.clone();
            let (back, next) = blocking(move || successor(reader, &path)).await;
            reader = back;
            match next? {
                Successor::None => {}
                Successor::Midway => {
                    // Between a rename and the making of the new file there is nothing to watch.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                Successor::File(file) => {
                    // Nobody writes to the old file any more: what came after our last look is all there is.
                    if !self.drain(&mut reader, &mut room).await? {
                        return Ok(());
                    }
                    reader.file = file;
                    watch = self.ctx.watcher.watch(&self.path).ok();
                    continue;
                }
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

    /// Sends what is left of a file; `false` when the reader has enough.
    async fn drain(&self, reader: &mut Reader, room: &mut u64) -> Result<bool, FileError> {
        loop {
            let mut file = reader.file.try_clone().at("duplicate", &self.path)?;
            let bytes = blocking(move || read_chunk(&mut file)).await.at("read", &self.path)?;
            if bytes.is_empty() {
                return Ok(true);
            }
            if !self.send(reader, &bytes, room).await {
                return Ok(false);
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
