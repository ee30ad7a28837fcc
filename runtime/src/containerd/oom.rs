//! The memory killer, watched at every task. Owns: when it is looked, and whom that is told. Does not own: counting
//! (`cgroup::Kills`).

use pintle_ttrpc::events::TaskNews;

use super::server::Server;

impl Server {
    /// The memory killer may have struck, or the cgroup has gone, of which the watch would tell for ever.
    pub(super) fn told_of_oom(&mut self, serial: u64) {
        let Some(process) = self.processes.get(&serial) else { return };
        let id = process.task.clone();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let gone = task.cgroups.of("memory").is_none_or(|directory| !directory.exists());
        task.oom_watch = task.oom_watch.take().filter(|watch| !gone && watch.consume().is_ok());
        self.look_for_kills(&id);
    }

    /// Tells of what the memory killer did since this was last asked.
    pub(super) fn look_for_kills(&mut self, id: &str) {
        if self.tasks.get_mut(id).is_some_and(|task| task.kills.more()) {
            self.events.publish("/tasks/oom", "TaskOOM", &TaskNews { container_id: id.to_owned() });
        }
    }
}
