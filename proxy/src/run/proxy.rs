//! The loop: waits for changes, timers and foreign hands, and notes them for the backend. What a synchronisation is made
//! of is in `sync`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_client::{Backoff, Change as Event};
use pintle_nft::Family;
use pintle_proxy_plan::{Change, Config};
use tokio::time::Instant as Deadline;

use super::watched::{Caches, Events};
use crate::backend::{Backend, BackendError, Watch};
use crate::config::ProxyError;
use crate::health::Health;
use crate::kube_config::LocalMode;
use crate::metrics::Metrics;
use crate::node;
use crate::outlets::Outlets;
use crate::packed::Packed;
use crate::programming::Programming;

/// What was noted since the last synchronisation.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) services: usize,
    pub(super) slices: usize,
    /// A full load comes.
    pub(super) all: bool,
    /// What is fresh is to be settled.
    pub(super) settle: bool,
}

/// The proxy at work.
pub(super) struct Proxy {
    /// The name of the mode.
    pub(super) mode: &'static str,
    pub(super) local_mode: LocalMode,
    pub(super) base: Config,
    pub(super) caches: Caches,
    pub(super) events: Events,
    /// Away only while a thread synchronises.
    pub(super) backend: Option<Box<dyn Backend>>,
    pub(super) watch: Box<dyn Watch>,
    /// From when on what other modes left is to be removed; `None` when that is done.
    pub(super) remove_others: Option<Deadline>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) outlets: Outlets,
    pub(super) backoff: Backoff,
    pub(super) retry: Option<Deadline>,
    /// When what is fresh is to be settled; `None` while nothing is.
    pub(super) settle: Option<Deadline>,
    pub(super) check_every: Duration,
    pub(super) full_sync: Deadline,
    pub(super) full_sync_every: Duration,
    /// How long a synchronisation waits for the one before.
    pub(super) hold: Duration,
    pub(super) synced_at: Option<Deadline>,
    pub(super) pending: Pending,
    pub(super) programming: Programming,
}

/// What woke the loop.
enum Woken {
    Service(Event<Packed<Service>>),
    Slice(Event<Packed<EndpointSlice>>),
    Node,
    Timer,
    Meddling(Result<String, BackendError>),
}

impl Proxy {
    /// Serves until something is the end of it.
    pub(super) async fn serve(&mut self) -> Result<(), ProxyError> {
        self.drain()?;
        self.sync().await?;
        loop {
            match self.wait().await {
                Woken::Service(event) => self.note_service(&event)?,
                Woken::Slice(event) => self.note_slice(&event)?,
                Woken::Node => {}
                Woken::Timer => self.check().await?,
                Woken::Meddling(noticed) => {
                    let what = noticed.map_err(self.broken())?;
                    self.repair(&what)?;
                }
            }
            self.drain()?;
            if let Some(at) = self.synced_at.map(|at| at + self.hold).filter(|at| *at > Deadline::now()) {
                tokio::time::sleep_until(at).await;
                self.drain()?;
            }
            self.sync().await?;
        }
    }

    pub(super) fn backend(&mut self) -> Result<&mut dyn Backend, ProxyError> {
        match &mut self.backend {
            Some(backend) => Ok(backend.as_mut()),
            None => Err(ProxyError::Lost),
        }
    }

    /// Lends the backend to a thread: its calls block.
    pub(super) async fn lend<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut dyn Backend) -> T + Send + 'static,
    ) -> Result<T, ProxyError> {
        let mut backend = self.backend.take().ok_or(ProxyError::Lost)?;
        let task = tokio::task::spawn_blocking(move || {
            let done = work(backend.as_mut());
            (backend, done)
        });
        let (backend, done) = task.await.map_err(|_panicked| ProxyError::Lost)?;
        self.backend = Some(backend);
        Ok(done)
    }

    /// An error of the mode that is the end.
    pub(super) fn broken(&self) -> impl Fn(BackendError) -> ProxyError + 'static {
        let mode = self.mode;
        move |source| ProxyError::Mode { mode, source }
    }

    /// Somebody else was at work.
    fn repair(&mut self, what: &str) -> Result<(), ProxyError> {
        tracing::warn!("somebody else changed {what}, installing everything again");
        self.metrics.of(Family::V4).repairs.add(1);
        self.distrust()
    }

    /// The next synchronisation installs everything.
    pub(super) fn distrust(&mut self) -> Result<(), ProxyError> {
        self.pending.all = true;
        self.backend()?.distrust();
        Ok(())
    }

    async fn wait(&mut self) -> Woken {
        let glance = Deadline::now() + self.check_every;
        let at = [self.retry, self.settle].into_iter().flatten().fold(glance.min(self.full_sync), Deadline::min);
        tokio::select! {
            event = self.events.services.next() => Woken::Service(event),
            event = self.events.slices.next() => Woken::Slice(event),
            _ = self.events.nodes.next() => Woken::Node,
            noticed = self.watch.noticed() => Woken::Meddling(noticed),
            () = tokio::time::sleep_until(at) => Woken::Timer,
        }
    }

    /// A timer ran out: what is due?
    async fn check(&mut self) -> Result<(), ProxyError> {
        let now = Deadline::now();
        if self.full_sync <= now {
            self.full_sync = now + self.full_sync_every;
            return self.distrust();
        }
        if self.retry.is_some_and(|at| at <= now) {
            self.backend()?.try_again();
        }
        if self.settle.take_if(|at| *at <= now).is_some() {
            self.backend()?.settle();
            self.pending.settle = true;
        }
        if !self.lend(|backend| backend.is_intact()).await? {
            return self.repair("our rules");
        }
        Ok(())
    }

    fn note_service(&mut self, event: &Event<Packed<Service>>) -> Result<(), ProxyError> {
        match event {
            Event::Applied { new, .. } => self.backend()?.note(Change::Service(&new.unpack())),
            Event::Deleted { old } => self.backend()?.note(Change::ServiceGone(&old.unpack_identity())),
            Event::Resync => return Ok(()),
        }
        self.pending.services += 1;
        // In this order: who has seen a change counted sees it pending until it is installed.
        self.metrics.service_changes_pending.set(self.pending.services);
        self.metrics.service_changes.add(1);
        Ok(())
    }

    fn note_slice(&mut self, event: &Event<Packed<EndpointSlice>>) -> Result<(), ProxyError> {
        match event {
            Event::Applied { new, .. } => {
                let slice = new.unpack();
                self.programming.changed(&slice);
                self.backend()?.note(Change::Slice(&slice));
            }
            Event::Deleted { old } => self.backend()?.note(Change::SliceGone(&old.unpack_identity())),
            Event::Resync => return Ok(()),
        }
        self.pending.slices += 1;
        self.metrics.endpoint_changes_pending.set(self.pending.slices);
        self.metrics.endpoint_changes.add(1);
        Ok(())
    }

    /// Takes note of everything that has come, so that one transaction carries it.
    fn drain(&mut self) -> Result<(), ProxyError> {
        self.drain_objects()?;
        while self.events.nodes.try_next().is_some() {}
        self.follow_node()?;
        if self.pending.services + self.pending.slices > 0 || self.pending.all {
            self.health.queued(Instant::now());
            self.metrics.last_queued.now();
        }
        Ok(())
    }

    fn drain_objects(&mut self) -> Result<(), ProxyError> {
        while let Some(event) = self.events.services.try_next() {
            self.note_service(&event)?;
        }
        while let Some(event) = self.events.slices.try_next() {
            self.note_slice(&event)?;
        }
        Ok(())
    }

    /// Begins again when our Node has other addresses, ranges or another zone: endpoints were chosen by them.
    fn follow_node(&mut self) -> Result<(), ProxyError> {
        let node = self.caches.nodes.get("", &self.base.node);
        self.health.leaving(node.as_deref().is_some_and(node::is_leaving));
        let config =
            node.as_deref().map_or_else(|| self.base.clone(), |n| node::configure(&self.base, &self.local_mode, n));
        if *self.backend()?.config() != config {
            self.backend()?.reconfigure(config);
            self.outlets.clear();
            self.pending.all = true;
            // A new subscription tells everything from the beginning.
            self.events = self.caches.subscribe();
            self.drain_objects()?;
        }
        Ok(())
    }
}
