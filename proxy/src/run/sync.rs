//! One synchronisation: what was noted is carried out, and what came of it is told. What is refused is tried again later.

use std::time::Duration;

use tokio::time::Instant as Deadline;

use super::cause;
use super::proxy::{Pending, Proxy};
use crate::backend::{Extent, Report};
use crate::config::ProxyError;
use crate::mode;

/// Above this many changes at once we do not listen to the kernel's notifications of our own transactions.
const QUIET_ABOVE_CHANGES: usize = 50;
/// What is fresh is settled this long after the first of it came: changes come in crowds.
const SETTLE_AFTER: Duration = Duration::from_secs(1);
/// Somebody who meddles again and again is answered this often.
const REPAIR_AT_MOST_EVERY: Duration = Duration::from_millis(200);

impl Proxy {
    /// Carries out what was noted. A refusal is said and tried again later.
    pub(super) async fn sync(&mut self) -> Result<(), ProxyError> {
        let pending = std::mem::take(&mut self.pending);
        if pending.services + pending.slices == 0 && !pending.all && !pending.settle && self.retry.is_none() {
            return Ok(());
        }
        let quiet = pending.all || self.retry.is_some() || pending.services + pending.slices > QUIET_ABOVE_CHANGES;
        if quiet {
            self.watch.pause().map_err(self.broken())?;
        }
        if pending.all {
            self.watch.forget().await;
        }
        let synced = self.lend(move |backend| {
            if quiet {
                backend.begin_alone();
            }
            backend.sync()
        });
        let mut report = synced.await?;
        // What is refused waits for its time, whatever else changes.
        self.retry = self.retry.filter(|at| *at > Deadline::now());
        self.synced_at = Some(Deadline::now());
        let is_settled = self.backend()?.is_settled();
        self.settle = self.settle.filter(|_| !is_settled).or((!is_settled).then(|| Deadline::now() + SETTLE_AFTER));
        if quiet {
            self.watch.resume().map_err(self.broken())?;
            // While nobody listened somebody may have been at work: look, now that we listen again.
            if report.is_installed() && !self.lend(|backend| backend.was_alone()).await? {
                self.distrust()?;
                self.retry = Some(Deadline::now() + REPAIR_AT_MOST_EVERY);
            }
        }
        self.after(&mut report, &pending).await
    }

    async fn after(&mut self, report: &mut Report, pending: &Pending) -> Result<(), ProxyError> {
        if report.is_installed() {
            self.health.installed();
            self.metrics.last_synced.now();
            self.metrics.service_changes_pending.set(0);
            self.metrics.endpoint_changes_pending.set(0);
            self.programming.installed(&self.metrics);
            if self.remove_others.is_some_and(|at| at <= Deadline::now()) {
                self.remove_others().await?;
            }
        }
        if report.wants_retry() {
            let waits = report.is_installed() && self.retry.is_some();
            let at = (!waits).then(|| Deadline::now() + self.backoff.delay());
            self.retry = self.retry.into_iter().chain(at).min();
        } else {
            self.backoff.reset();
        }
        self.outlets.measure(report);
        // Counting looks at every Service: not after each little change of a large cluster.
        if report.families.iter().any(|f| f.extent == Extent::Full) || pending.services + pending.slices > 0 {
            let backend = self.backend.as_deref().ok_or(ProxyError::Lost)?;
            self.outlets.count(backend, report);
        }
        let services = &self.caches.services;
        self.outlets.apply(report, |name| Some(services.get(&name.namespace, &name.name)?.unpack())).await;
        Ok(())
    }

    /// What other modes installed, before this process began, is in the way no longer than until our rules serve. What
    /// cannot be removed now is tried again with the next full synchronisation.
    async fn remove_others(&mut self) -> Result<(), ProxyError> {
        let (config, mode) = (self.base.clone(), self.mode);
        let removed = tokio::task::spawn_blocking(move || mode::cleanup(&config, Some(mode)));
        match removed.await.map_err(|_panicked| ProxyError::Lost)? {
            Ok(()) => self.remove_others = None,
            Err(error) => {
                self.remove_others = Some(self.full_sync);
                let (cause, hint) = (cause(&error), error.hint());
                tracing::warn!(%error, cause, hint, "rules of another mode may be left");
            }
        }
        Ok(())
    }
}
