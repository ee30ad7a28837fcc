//! A mode's backend with connect time beside it: the mode does all it does without, and every synchronisation of its is
//! followed by one of ours. Whatever goes wrong here is said and no fault of the mode.

use std::sync::Arc;

use pintle_proxy_plan::{Change, Config, ServiceMap};

use super::{ConnectError, ConnectTime, Extent, Options, Wanted};
use crate::backend::{self, Backend, Report};
use crate::forward::Counters;

/// The backend of a mode, with connect time beside it where that is wanted and possible.
///
/// # Errors
/// When it is wanted whatever happens, and impossible.
pub fn beside(mode: Box<dyn Backend>, options: &Options, on_loopback: bool) -> Result<Box<dyn Backend>, ConnectError> {
    if options.wanted == Wanted::Off {
        return Ok(mode);
    }
    match ConnectTime::open(options, on_loopback) {
        Ok(connect) => Ok(Box::new(Beside { mode, connect })),
        Err(error) if options.wanted == Wanted::On => Err(error),
        Err(error) => {
            say(&error, "Services are not served at connect time, but by packets alone");
            Ok(mode)
        }
    }
}

fn say(error: &ConnectError, what: &str) {
    let (cause, hint) = (crate::run::cause(error), error.hint());
    tracing::warn!(%error, cause, hint, "{what}");
}

/// See the module's description.
struct Beside {
    mode: Box<dyn Backend>,
    connect: ConnectTime,
}

impl Beside {
    fn judge<T>(outcome: Result<T, ConnectError>) {
        if let Err(error) = outcome {
            say(&error, "Services are served by packets alone until the next full synchronisation");
        }
    }
}

impl Backend for Beside {
    fn config(&self) -> &Config {
        self.mode.config()
    }

    fn reconfigure(&mut self, config: Config) {
        self.mode.reconfigure(config);
    }

    fn note(&mut self, change: Change<'_>) {
        self.mode.note(change);
    }

    fn distrust(&mut self) {
        self.mode.distrust();
        self.connect.try_again();
    }

    fn try_again(&mut self) {
        self.mode.try_again();
        self.connect.try_again();
    }

    fn is_settled(&self) -> bool {
        self.mode.is_settled()
    }

    fn settle(&mut self) {
        self.mode.settle();
    }

    fn sync(&mut self) -> Report {
        let report = self.mode.sync();
        // A mode that installs everything may have been told everything anew.
        let all = report.families.iter().any(|f| f.extent == backend::Extent::Full);
        let extent = if all { Extent::Everything } else { Extent::Changes };
        Self::judge(self.connect.follow(&self.mode.maps(), &report.concerned, extent));
        report
    }

    fn maps(&self) -> Vec<&ServiceMap> {
        self.mode.maps()
    }

    fn is_intact(&mut self) -> bool {
        Self::judge(self.connect.look_after(self.mode.config()));
        self.mode.is_intact()
    }

    fn begin_alone(&mut self) {
        self.mode.begin_alone();
    }

    fn was_alone(&mut self) -> bool {
        self.mode.was_alone()
    }

    fn forwarding(&self) -> Option<Arc<Counters>> {
        self.mode.forwarding()
    }
}
